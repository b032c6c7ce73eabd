"""What is said of a training set: lengths, report, page, card; read once from a folder made by hand."""

from __future__ import annotations

import json
import re
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_set_zoo import abstaining, record, reread, write

from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError, StoreDamagedError
from llama_index_hybridmem.export import drawing
from llama_index_hybridmem.export.card import YOURS, card
from llama_index_hybridmem.export.describing import HELD_OUT, describe, records
from llama_index_hybridmem.export.description import Description
from llama_index_hybridmem.export.formats import FORMATS, row
from llama_index_hybridmem.export.lengths import ESTIMATE, Lengths, parted
from llama_index_hybridmem.export.report_page import page
from llama_index_hybridmem.export.wording import Wording


class Words:
    """A tokenizer of words, with a chat template of its own."""

    name_or_path = "words"
    chat_template = "yes"

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool = True, add_generation_prompt: bool = False
    ) -> str:
        """Render messages."""
        assert not tokenize
        told = "".join(f"<{each['role']}> {each['content']} <end> " for each in messages)
        return told + ("<assistant> " if add_generation_prompt else "")

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[str]]]:
        """Count several texts at once."""
        assert not add_special_tokens
        return {"input_ids": [text.split() for text in texts]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four records in three shards, every fourth of them abstaining."""
    made = [abstaining(n) if n % 4 == 1 else record(n) for n in range(24)]
    return write(tmp_path_factory.mktemp("sets") / "inventors", made, ("prompt-completion", "openai"))


@pytest.fixture(scope="module")
def found(folder: Path) -> Description:
    """Its description, written."""
    return describe(folder)


# -- lengths


def measured(rows: list[tuple[str, str]], tokenizer: object = str.split, max_length: int | None = None) -> Lengths:
    """Lengths of rows of (prompt, completion)."""
    lengths = Lengths("completion", tokenizer, max_length)
    for n, (prompt, completion) in enumerate(rows):
        lengths.add({"id": f"r{n}", "prompt": prompt, "completion": completion})
    return lengths


def test_rows_that_a_length_cuts_are_told_from_those_it_empties() -> None:
    """An answer that loses its end is cut; one whose prompt fills the length is gone; the next multiple of 64 saves."""
    rows = [("a " * 10, "b " * 5), ("a " * 10, "b " * 11), ("a " * 20, "b"), ("a " * 90, "b")]
    found = measured(rows, max_length=20).result()
    assert (found.rows, found.cut, found.gone) == (4, 1, 2)
    assert found.examples == ("r1", "r2", "r3")
    assert found.recommended == 128
    assert (found.total.shortest, found.total.median, found.total.longest) == (15, 21, 91)
    assert measured(rows, max_length=found.recommended).result().cut == 0


def test_the_histogram_holds_every_row() -> None:
    """Bins follow one another from 0 on, and their counts sum to the rows."""
    bins = measured([("a " * n, "b") for n in range(1, 300, 7)]).result().total.histogram
    assert sum(n for *_, n in bins) == 43
    assert [start for start, *_ in bins[1:]] == [stop for _, stop, _ in bins[:-1]]


def test_the_usual_length_says_what_it_loses() -> None:
    """One long row of two hundred: a percentile's length loses it, and says so."""
    found = measured([("a " * 9, "b")] * 199 + [("a " * 900, "b")]).result()
    assert (found.p99_length, found.p99_loses, found.recommended) == (64, 1, 960)


def test_without_a_tokenizer_lengths_are_estimated() -> None:
    """A quarter of the bytes, and the report says that it is an estimate; TRL's default is judged."""
    found = measured([("é" * 200, "b" * 400)], tokenizer=None).result()
    assert (found.estimated, found.tokenizer, found.max_length) == (True, ESTIMATE, 1024)
    assert found.total.longest == 208


def test_a_chat_template_counts() -> None:
    """Messages are counted with the template's frame, the prompt with the start of the answer."""
    turns = [{"role": "user", "content": "one two"}]
    answer = [{"role": "assistant", "content": "three"}]
    lengths = Lengths("prompt-completion", Words())
    lengths.add({"prompt": turns, "completion": answer})
    lengths.add({"messages": [*turns, *answer]})
    found = lengths.result()
    assert (found.tokenizer, found.estimated) == ("words", False)
    assert (found.prompt.shortest, found.prompt.longest) == (5, 5)
    assert (found.completion.longest, found.total.longest) == (2, 7)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_parted_alike(format_: str) -> None:
    """The answer is what is learned, and the question what is given, in every format."""
    given, learned = parted(row(record(0), format_, Wording()))
    assert "Inventor Nr0" in str(learned)
    assert "Who built" not in str(learned)
    assert "Who built" in str(given)
    assert "Answer the question" in str(given)


def test_what_is_no_row_is_refused() -> None:
    """A row without any known column is no row, and 0 is no length; an unknown tokenizer is named."""
    with pytest.raises(ConfigurationError, match="no known format"):
        parted({"text": "x"})
    with pytest.raises(ConfigurationError, match="at least 1"):
        Lengths("messages", None, 0)


def test_a_named_tokenizer_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers the extra is named; with it, a name that leads nowhere."""

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name: str) -> None:
            """Fail as the real one does, which takes seconds to import."""
            raise OSError(f"{name} is not a local folder")

    library = types.ModuleType("transformers")
    library.AutoTokenizer = AutoTokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", library)
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: True)
    with pytest.raises(ConfigurationError, match="no tokenizer 'nobody/nothing': nobody/nothing is not a local"):
        Lengths("messages", "nobody/nothing")
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="lora"):
        Lengths("messages", "nobody/nothing")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_row_has_a_length(prompt: str, completion: str) -> None:
    """No text raises, and none is longer than prompt and answer by themselves."""
    found = measured([(prompt, completion)], tokenizer=list).result()
    assert found.total.longest == len(prompt) + len(completion)


# -- the description


def test_records_and_rows_are_counted(found: Description) -> None:
    """Records by label and split, rows of each format, and what was left out by the shards' word."""
    assert (found.tallies.records, found.tallies.abstained) == (24, 6)
    assert found.tallies.splits == {"train": (12, 6), "dev": (6, 6), "test": (6, 6)}
    assert found.files == {name: {"train": 12, "dev": 6, "test": 6} for name in ("prompt-completion", "openai")}
    assert found.left_out == {"straddles": 3}
    assert found.verdict[0] == "too few"


def test_target_and_achieved_stand_side_by_side(found: Description) -> None:
    """Every kind has its target, its exact injected share, and what the detectors found; labels tell what is gone."""
    lines = {each.kind: each for each in found.noise.lines}
    assert lines["truncation"].target is not None
    assert lines["truncation"].target.share == 0.2
    assert lines["truncation"].injected == pytest.approx(18 / 42)
    gone = lines["gold_removed"]
    assert gone.achieved is not None
    assert (gone.achieved.share, gone.difference, gone.met) == (0.25, 0.0, True)
    assert found.noise.measured == 24


def test_the_report_is_json_and_the_description(folder: Path, found: Description) -> None:
    """report.json says what the description says, in plain JSON."""
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found.to_json()))


def test_describing_twice_gives_the_same_bytes(folder: Path, found: Description) -> None:
    """Nothing of a clock or of chance is in it."""
    names = ("report.json", "report.html", "README.md")
    before = [(folder / name).read_bytes() for name in names]
    describe(folder)
    assert [(folder / name).read_bytes() for name in names] == before


def test_strength_makes_the_target_stronger(tmp_path: Path) -> None:
    """The target is the profile's rate times the export's strength."""
    folder = write(tmp_path / "set", [record(n) for n in range(4)])
    settings = json.loads((folder / "export.json").read_text())
    settings["options"]["strength"] = 2.0
    (folder / "export.json").write_text(json.dumps(settings))
    found = {each.kind: each.target for each in describe(folder, write=False).noise.lines}
    assert found["truncation"] is not None
    assert found["truncation"].share == 0.4


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"abstain_share": 0.4}, 0.4), ({"p_gold": 0.5}, 0.5 + 0.5 / 6), ({}, 0.25)],
    ids=["abstain_share", "p_gold", "profile"],
)
def test_how_often_nothing_answers_is_what_the_options_ask_for(
    tmp_path: Path, options: dict[str, float], wanted: float
) -> None:
    """In place of the profile's rate; questions that were retrieved without an answer count with ``p_gold``."""
    failed = record(5, answer="No.", answerable=False, quotes=(), gold=frozenset())
    folder = write(tmp_path / "set", [*(record(n) for n in range(5)), failed])
    settings = json.loads((folder / "export.json").read_text())
    settings["options"].update(options)
    (folder / "export.json").write_text(json.dumps(settings))
    lines = {each.kind: each for each in describe(folder, write=False).noise.lines}
    assert lines["gold_removed"].target is not None
    assert lines["gold_removed"].target.share == pytest.approx(wanted)


def test_a_held_out_kind_is_not_compared(tmp_path: Path) -> None:
    """It is in test alone: the report says so, and it neither warns nor counts in the mean."""
    folder = write(tmp_path / "set", [record(n) for n in range(8)])
    settings = json.loads((folder / "export.json").read_text())
    settings["options"]["held_out_kinds"] = ["truncation"]
    (folder / "export.json").write_text(json.dumps(settings))
    told = describe(folder, write=False)
    lines = {each.kind: each for each in told.noise.lines}
    assert (lines["truncation"].why, lines["truncation"].difference) == (HELD_OUT, None)
    assert lines["gold_removed"].difference is not None
    assert told.noise.mean_difference == pytest.approx(abs(lines["gold_removed"].difference))
    assert not any("truncation:" in each for each in told.warnings)


def test_a_sample_is_measured_whatever_the_shards(tmp_path: Path) -> None:
    """Of many records as many as asked are measured, the same ones in any order of the records."""
    made = [record(n) if n % 2 else replace(record(n), noisy=record(n).clean) for n in range(20)]
    one = describe(write(tmp_path / "one", made), measured=7, write=False)
    other = describe(write(tmp_path / "other", made[::-1]), measured=7, write=False)
    assert one.noise == other.noise
    assert one.noise.measured == 7


def test_what_is_wrong_is_a_warning(tmp_path: Path) -> None:
    """Rows that are missing, leaks, faults and long rows are said, each in a sentence."""
    leak = record(3, split="train", id="leak")
    lying = record(4, answer="Not in the sources.", question="Which shed was painted green by somebody?")
    folder = write(tmp_path / "set", [record(n) for n in range(4)] + [leak, lying])
    (folder / "prompt-completion" / "dev-00000.jsonl").unlink()
    told = "\n".join(describe(folder, tokenizer=str.split, max_length=30, write=False).warnings)
    for part in ("5 rows for 6 records", "Leak: 1 document", "answers otherwise", "max_length 30", "few-shot"):
        assert part in told


def test_an_export_without_records_is_described(tmp_path: Path) -> None:
    """All drafts left out: nothing divides by nothing, no share is made up, and the page is written."""
    folder = write(tmp_path / "set", [record(0)])
    (folder / "records" / "part-00000.jsonl").write_text("")
    (folder / "prompt-completion" / "train-00000.jsonl").unlink()
    found = describe(folder)
    assert (found.tallies.records, found.lengths, found.facts.share) == (0, None, None)
    assert [each.achieved for each in found.noise.lines] == [None, None]
    assert found.verdict[0] == "too few"
    assert (folder / "report.html").exists()


def test_no_export_is_refused(tmp_path: Path) -> None:
    """A folder without records, a line that is no record, and half a line are named with their place."""
    with pytest.raises(ConfigurationError, match="no finished export"):
        describe(tmp_path)
    folder = write(tmp_path / "set", [record(0)])
    place = folder / "records" / "part-00000.jsonl"
    for content, error in (('{"schema": 9}\n', ConfigurationError), ('{"schema"', StoreDamagedError)):
        place.write_text(content)
        with pytest.raises(error, match=r"part-00000\.jsonl, line 1"):
            list(records(folder))
        with pytest.raises(error, match=r"part-00000\.jsonl, line 1"):
            describe(folder, write=False)


# -- the card


def test_the_card_is_one_that_the_hub_reads(folder: Path, found: Description) -> None:
    """YAML front matter with the files of each format, as patterns that match them."""
    yaml = pytest.importorskip("yaml")
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["pretty_name"] == "inventors"
    assert told["size_categories"] == ["n<1K"]
    first = told["configs"][0]
    assert (first["config_name"], first["default"]) == ("prompt-completion", True)
    for each in first["data_files"]:
        rows = [row for path in sorted(folder.glob(each["path"])) for row in reread(path)]
        assert len(rows) == found.files["prompt-completion"][each["split"]]
    for part in ("## Noise", "truncation", "## Limits", "## Licence", str(found.settings["hash"])):
        assert part in body


def test_what_the_user_put_into_the_card_stays(found: Description) -> None:
    """The licence and all below the mark survive a second description; the rest is written anew."""
    first = card(found)
    mine = first.replace("license: unknown", "license: cc-by-4.0").replace("Not stated.", "CC BY 4.0, of ACME.")
    again = card(replace(found, name="renamed"), mine)
    assert "license: cc-by-4.0" in again
    assert "CC BY 4.0, of ACME." in again
    assert again.count(YOURS) == 1
    assert "# renamed" in again
    assert card(replace(found, name="renamed"), again) == again


def test_names_do_not_break_the_card(found: Description) -> None:
    """Pipes, marks and line ends in a name stay text."""
    told = card(replace(found, name='a|b\n# c "d" *e*', left_out={"x|y\nz": 1}))
    assert '\npretty_name: "a|b\\n# c \\"d\\" *e*"' in told
    assert "\n# a\\|b \\# c" in told
    assert "x\\|y z 1" in told


# -- the page


class Tags(HTMLParser):
    """Which tags are open, and all that was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(found: Description) -> None:
    """Every tag is closed, nothing is fetched or run, both bars of every kind are there."""
    written, tags = page(found), Tags()
    tags.feed(written)
    assert tags.open == []
    assert not {"script", "img", "link", "iframe"} & set(tags.seen)
    assert not re.search(r"https?://|url\(", written)
    assert {"target", "achieved"} <= set(re.findall(r">(target|achieved)</text>", written))
    assert tags.seen.count("svg") == 2


def test_hostile_names_stay_text(found: Description) -> None:
    """Tags, turning marks and half characters in a set's names neither open a tag nor break the page's encoding."""
    hostile = "<script>x</script>\u202e\ud800"
    told = page(
        replace(
            found,
            name=hostile,
            left_out={hostile: 1},
            tallies=replace(found.tallies, origins={hostile: 1}, operators={hostile: 2}, faulty=((hostile, hostile),)),
        )
    )
    told.encode()
    assert "<script" not in told
    assert "\u202e" not in told


def test_a_bar_is_as_long_as_its_share() -> None:
    """Twice the share is twice the length; an unknown one is said to be unknown."""
    rows = [("a", drawing.Bar(0.2, 0.1, 0.3), drawing.Bar(0.4, 0.3, 0.5)), ("b", None, None)]
    svg = drawing.pairs("shares", ("one", "two"), rows)
    first, second = (float(width) for width in re.findall(r'width="([\d.]+)" height="11', svg))
    assert second == pytest.approx(2 * first, abs=0.2)
    assert svg.count(">unknown<") == 2


def test_a_histogram_draws_its_marks() -> None:
    """Marks inside are drawn, beyond the last bin left out; nothing at all is drawn without raising."""
    svg = drawing.histogram("sizes", [(0, 10, 3), (10, 20, 1)], [(15, "here"), (99, "there")])
    assert "here" in svg
    assert "there" not in svg
    assert "<svg" in drawing.histogram("sizes", [], [])
