"""A training set written from drafts: what becomes of answers, the same bytes after any kill, and refusals."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.disk import FolderLock
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError, StoreError, StoreLockedError
from llama_index_hybridmem.export import making, on_ray, parallel
from llama_index_hybridmem.export.describing import describe
from llama_index_hybridmem.export.exporter import export
from llama_index_hybridmem.export.making import Chances, LeftOut, make_record
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.parts import Sample
from llama_index_hybridmem.export.record import Draft, Record, encodable, record_from_json
from llama_index_hybridmem.export.shards import line, training_line
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.operators import registry
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import quoted

ABSTAIN = Wording().abstain[0]
FEW = ExportOptions(shard_rows=4, fitted=False, formats=("prompt-completion", "openai"))


def draft(number: int, **change: Any) -> Draft:
    """A question about a machine, and three passages; the second answers."""
    about = (
        f"The loom of mill {number} was built in {1000 + number} by Jacob Arkwright of Derby. It has {number} shafts."
    )
    texts = (
        f"Mill {number} stands on the river.",
        f"{about} Cloth is woven on it day and night.",
        "Wool is dyed in June.",
    )
    passages = tuple(
        Passage(
            f"n{number}-{at}", text, {"title": f"Mills {at}", "date": "2024-05-01"}, f"doc{number}-{at}.md", 1 - at / 9
        )
        for at, text in enumerate(texts)
    )
    near = (Passage(f"n{number}-near", "The loom of another mill is older.", {}, "other.md"),)
    scene = Scene(
        f"When was the loom of mill {number} built?", passages, near, frozenset([f"n{number}-1"]), str(1000 + number)
    )
    return replace(Draft(f"d{number}", replace(scene, **change)), versions={f"doc{number}-1.md": "v1"})


def drafts(count: int, **change: Any) -> Iterator[Draft]:
    """Several of them."""
    return (draft(number, **change) for number in range(count))


def profile(**rates: float) -> Profile:
    """With these rates."""
    return Profile({kind: KindRate(rate, rate, rate) for kind, rate in rates.items()})  # type: ignore[misc]


NOISE = profile(truncation=0.4, ocr=0.3, layout=0.3, metadata=0.2, duplicate=0.1, gold_removed=0.2, irrelevant=0.2)


def records(folder: Path) -> list[Record]:
    """All records of an export."""
    lines = (text for path in sorted((folder / "records").iterdir()) for text in path.read_text("utf-8").splitlines())
    return [record_from_json(json.loads(text)) for text in lines]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of an export but the owner's mark."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "owner.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# -- one record -------------------------------------------------------------------------------------------------------


def test_an_answer_is_given_only_with_what_supports_it(tmp_path: Path) -> None:
    """With its quote standing word by word in the damaged passages; else the model abstains, and quotes nothing."""
    export(drafts(60), tmp_path, replace(FEW, strength=2.0), NOISE)
    made = records(tmp_path)
    assert {each.answerable for each in made} == {True, False}
    for each in made:
        texts = {passage.id: passage.text for passage in each.noisy}
        if each.answerable:
            assert each.answer == each.expected
            assert each.quotes
            assert all(quote.text in texts[quote.passage] for quote in each.quotes)
            assert any(each.answer in quote.text for quote in each.quotes)
        else:
            assert each.answer == ABSTAIN
            assert not each.quotes
            assert not any(quoted(str(each.expected), passage.text) for passage in each.noisy)


def test_a_sound_passage_is_quoted_by_the_sentence() -> None:
    """Not by the answer's words alone, and no sentence more."""
    made = make_record(draft(7), FEW, Mix({}), World())
    assert isinstance(made, Record)
    assert [quote.text for quote in made.quotes] == [
        "The loom of mill 7 was built in 1007 by Jacob Arkwright of Derby."
    ]


def test_own_quotes_come_first() -> None:
    """What the user quoted for the answer is quoted, as it stands in the passage."""
    made = make_record(draft(7, quotes=("mill 7 was  built in 1007",)), FEW, Mix({}), World())
    assert isinstance(made, Record)
    assert [quote.text for quote in made.quotes] == ["mill 7 was built in 1007"]


def test_what_was_retrieved_without_an_answer_abstains() -> None:
    """The retriever's own failure is kept as it is, and labelled by what the prompt gets, not by what lies beyond."""
    for failed in (draft(3, gold=frozenset()), draft(3, gold=frozenset(), answer=None)):
        scene = failed.scene
        failed = replace(failed, scene=replace(scene, passages=tuple(scene.passages[at] for at in (0, 2))))
        made = make_record(failed, FEW, Mix({}), World())
        assert isinstance(made, Record)
        assert (made.answer, made.answerable) == (ABSTAIN, False)
        assert made.noisy == made.clean
    beyond = make_record(draft(3), replace(FEW, top_k=1), Mix({}), World())
    assert isinstance(beyond, Record)
    assert (beyond.answerable, beyond.gold) == (False, frozenset())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"answer": None}, making.ANSWER_UNKNOWN, id="answer-unknown"),
        pytest.param({"gold": frozenset()}, making.TOLD_ELSEWHERE, id="gold-not-named"),
    ],
)
def test_what_cannot_be_labelled_is_left_out(change: dict[str, Any], reason: str) -> None:
    """With the reason."""
    assert make_record(draft(5, **change), FEW, Mix({}), World()) == LeftOut(reason)


def test_a_question_without_an_answer_abstains_once_its_gold_is_gone() -> None:
    """Its sources are known: without them nobody can answer."""
    made = make_record(draft(5, answer=None), replace(FEW, p_gold=0.0), Mix({}), World())
    assert isinstance(made, Record)
    assert (made.answer, made.answerable, made.expected) == (ABSTAIN, False, None)
    assert [each.id for each in made.removed] == ["n5-1"]


def test_distractors_are_added_among_the_passages() -> None:
    """As many as were asked for and retrieved, marked, and not always at the same place."""
    options = replace(FEW, distractors=2)
    made = [make_record(each, options, Mix({}), World()) for each in drafts(30)]
    places = Counter()
    for each in made:
        assert isinstance(each, Record)
        assert len(each.noisy) == 4
        (at,) = (at for at, passage in enumerate(each.noisy) if passage.has("distractor"))
        assert each.noisy[at].id.endswith("-near")
        places[at] += 1
    assert set(places) == {0, 1, 2, 3}


def test_the_same_draft_gives_the_same_record_whatever_came_before() -> None:
    """Each record draws from its own seed, and another seed draws otherwise."""
    mix = Mix.of(NOISE)
    alone = [make_record(draft(number), FEW, mix, World()) for number in (8, 3)]
    assert alone == [
        make_record(each, FEW, mix, World()) for each in reversed(list(drafts(9))) if each.id in ("d8", "d3")
    ]
    assert alone != [make_record(draft(number), replace(FEW, seed=1), mix, World()) for number in (8, 3)]


# -- shares -----------------------------------------------------------------------------------------------------------


def test_abstain_share_is_reached_from_either_side(tmp_path: Path) -> None:
    """By taking gold away where too few abstain, by leaving real failures out where too many would; all is counted."""
    few = export(drafts(100), tmp_path / "few", replace(FEW, abstain_share=0.3), NOISE)
    assert few.records == 100
    assert 0.2 < few.abstained / few.records < 0.4
    failures = (draft(each, gold=frozenset(), answer=None) if each % 2 else draft(each) for each in range(100))
    many = export(failures, tmp_path / "many", replace(FEW, abstain_share=0.2), profile())
    assert 0.12 < many.abstained / many.records < 0.28
    assert many.left_out[making.SURPLUS] == 100 - many.records


def test_p_gold_decides_whether_gold_stays(tmp_path: Path) -> None:
    """1 keeps every answer supported whatever the noise, 0 none; a share of the answered ones in between."""
    for share, low, high in ((1.0, 0, 0), (0.0, 30, 30), (0.5, 8, 22)):
        made = export(drafts(30), tmp_path / str(share), replace(FEW, p_gold=share), NOISE)
        assert low <= made.abstained <= high


def test_chances_need_no_answered_drafts() -> None:
    """Nothing is divided by nothing."""
    options = replace(FEW, abstain_share=0.5)
    assert Chances.of(options, 0, 0) == Chances(1.0)
    assert Chances.of(options, 0, 10).kept == 0.0
    assert Chances.of(replace(FEW, abstain_share=1.0), 10, 0).stays == 0.0


def test_held_out_kinds_are_in_test_alone(tmp_path: Path) -> None:
    """Train and dev never see them; test does."""
    options = replace(FEW, held_out_kinds=("ocr",), splits={"train": 0.5, "dev": 0.1, "test": 0.4})
    export(drafts(80), tmp_path, options, profile(ocr=0.8, layout=0.8))
    seen = {split: set().union(*(each.kinds() for each in records(tmp_path) if each.split == split)) for split in
            ("train", "dev", "test")}  # fmt: skip
    assert "ocr" in seen["test"]
    assert "ocr" not in seen["train"] | seen["dev"]
    assert "layout" in seen["train"]


def test_a_held_out_domain_takes_its_documents_to_test(tmp_path: Path) -> None:
    """Another domain's questions on them go there, too, wherever they stand; so nothing of it is learned."""
    options = replace(FEW, held_out_domains=("law",), splits={"train": 1.0, "dev": 0.0, "test": 0.0})
    asked = [replace(draft(number), id=f"{domain}{number}", domain=domain) for domain in ("tax", "law") for number in
             range(6) if domain == "tax" or number % 2]  # fmt: skip
    export(asked, tmp_path, options, profile())
    assert {each.id: each.split for each in records(tmp_path)} == {
        **{f"tax{number}": "test" if number % 2 else "train" for number in range(6)},
        **{f"law{number}": "test" for number in (1, 3, 5)},
    }


def test_another_export_in_the_same_place_is_made_from_its_own_files(tmp_path: Path) -> None:
    """Within one process, and where a copy has kept the times of its files."""
    for name, count in (("one", 4), ("two", 5)):
        export(drafts(count), tmp_path / name, replace(FEW, seed=count), NOISE)
        os.utime(tmp_path / name / "export.json", ns=(1, 1))
    wanted = content(tmp_path / "two")
    for name in ("one", "two"):
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
        shutil.copytree(tmp_path / name, tmp_path / "place")
        (tmp_path / "place" / "records" / "part-00000.jsonl").unlink()
        export(None, tmp_path / "place", replace(FEW, seed=4 if name == "one" else 5), NOISE)
    assert content(tmp_path / "place") == wanted


def test_what_straddles_splits_is_left_out_and_named(tmp_path: Path) -> None:
    """A question on two documents of different splits is in no split; the shard's summary has its id."""
    both = (draft(number, gold=frozenset([f"n{number}-0", f"n{number}-1"])) for number in range(40))
    made = export(both, tmp_path, replace(FEW, splits={"train": 0.5, "dev": 0.0, "test": 0.5}), profile())
    told = [json.loads(path.read_text())["left_out"] for path in (tmp_path / "shards").iterdir()]
    names = {id_ for each in told for id_ in each.get(making.STRADDLES, ())}
    assert len(names) == made.left_out[making.STRADDLES] == 40 - made.records > 0
    assert not names & {each.id for each in records(tmp_path)}


# -- files ------------------------------------------------------------------------------------------------------------


def test_every_format_has_every_record_in_its_order(tmp_path: Path) -> None:
    """By split and shard; a file of OpenAI's has nothing but messages, and its side-car says which record a line is."""
    made = export(drafts(10), tmp_path, FEW, NOISE)
    rows: dict[str, list[str]] = {}
    for path in sorted((tmp_path / "openai").glob("t*.jsonl")):
        lines = path.read_text("utf-8").splitlines()
        assert all(set(json.loads(text)) == {"messages"} for text in lines)
        rows[path.stem] = lines
    for path in (tmp_path / "openai").glob("provenance-*.jsonl"):
        for beside in map(json.loads, path.read_text("utf-8").splitlines()):
            shard = path.stem.removeprefix("provenance-")
            if beside["split"] != "dev":
                text = rows[f"{beside['split']}-{shard}"][beside["line"] - 1]
                assert f"mill {beside['id'][1:]} built" in text
    files = sorted((tmp_path / "prompt-completion").glob("*.jsonl"))
    ids = [json.loads(text)["id"] for path in files for text in path.read_text("utf-8").splitlines()]
    assert sorted(ids) == sorted(each.id for each in records(tmp_path))
    assert made.splits == Counter(each.split for each in records(tmp_path))


def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path) -> None:
    """Shards are made by two fresh processes, and every file is as one process writes it."""
    told: list[tuple[int, int]] = []
    one = export(drafts(14), tmp_path / "one", FEW, NOISE)
    two = export(drafts(14), tmp_path / "two", FEW, NOISE, num_proc=2, progress=lambda *step: told.append(step))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert replace(two, folder=one.folder) == one
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


KILLED = """
import os, signal, stat, sys, traceback
from pathlib import Path
import test_export_exporter as here
from llama_index_hybridmem import disk

def killed_at(step):
    done = 0
    whole, rename = os.fsync, os.replace
    def die_on_write(descriptor):
        nonlocal done
        status = os.fstat(descriptor)
        done += stat.S_ISREG(status.st_mode)
        if done == step:  # half of what was to be written is there
            os.ftruncate(descriptor, status.st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        whole(descriptor)
    def die_on_rename(one, other):
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(one, other)
    os.fsync, os.replace = die_on_write, die_on_rename

def run(folder, step):
    child = os.fork()
    if not child:
        if step:
            killed_at(step)
        try:
            here.export(here.drafts(5), folder, here.FEW, here.NOISE)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

root = Path(sys.argv[1])
run(root / "unbroken", None)
wanted, step = here.content(root / "unbroken"), 0
while True:
    step += int(sys.argv[2])
    folder = root / str(step)
    status = run(folder, step)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    assert run(folder, None) == 0
    assert here.content(folder) == wanted, step
print(step - 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_kill_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed at every fifth write or rename (at each in the soak), and run again: all bytes are as without a kill."""
    assert kill_everywhere(tmp_path, 5) > 25


def kill_everywhere(folder: Path, stride: int) -> int:
    """Kill a process at each so-manyth step of an export, and compare; gives the number of steps."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(stride)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def die(folder: str, number: int) -> None:
    """Dies in the place of a shard."""
    os._exit(3)


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    """As an error of ours that says what may be the reason, and what to do."""
    with pytest.raises(StoreError, match="a worker process died .* call the same again"):
        list(parallel.run(die, str(tmp_path), [0, 1], processes=2))


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        pytest.param(ConfigurationError("no such operator"), (ConfigurationError, "no such operator"), id="ours"),
        pytest.param(RuntimeError("worker gone"), (StoreError, r"Ray failed \(RuntimeError: work"), id="worker"),
        pytest.param(ConnectionError("no cluster"), (StoreError, r"no cluster.* call the same again"), id="begin"),
    ],
)
def test_what_fails_on_ray_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, breaks: Exception, told: tuple[type[Exception], str]
) -> None:
    """A shard's own as it is, whatever Ray raises with advice."""

    def from_items(rows: list[dict[str, Any]], **_: int) -> Any:
        if isinstance(breaks, ConnectionError):
            raise breaks
        return SimpleNamespace(map=lambda one, **_: SimpleNamespace(iter_rows=lambda: map(one, rows)))

    def make(folder: str, number: int) -> None:
        if number:
            raise breaks

    data = SimpleNamespace(from_items=from_items)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(data=data, __spec__=ModuleSpec("ray", None)))
    monkeypatch.setitem(sys.modules, "ray.data", data)
    with pytest.raises(told[0], match=told[1]):
        list(on_ray.run(make, "set", [0, 1]))


def test_operators_of_an_export_must_be_known_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the user's own that a worker or a later run has not registered is named; a further one changes nothing."""
    here = dict(registry._REGISTERED)
    monkeypatch.setattr(registry, "_REGISTERED", here)
    registry.of_text("first_half", "layout")(lambda text, severity, draw: [Edit(len(text) // 2, len(text), "")])
    one = export(drafts(8), tmp_path / "one", FEW, profile(layout=0.9))
    assert json.loads((tmp_path / "one" / "mix.json").read_text())["operators"]["layout"]["first_half"] == 1.0
    wanted = content(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "records" / "part-00001.jsonl").unlink()
    known = here.pop("first_half")
    with pytest.raises(ConfigurationError, match=r"the operator 'first_half', .* register it in a module"):
        export(drafts(8), tmp_path / "two", FEW, profile(layout=0.9))
    here["first_half"] = known
    registry.of_text("second_half", "layout")(lambda text, severity, draw: [Edit(0, len(text) // 2, "")])
    assert export(drafts(8), tmp_path / "two", FEW, profile(layout=0.9)).splits == one.splits
    assert content(tmp_path / "two") == wanted


def test_a_finished_export_is_left_alone(tmp_path: Path) -> None:
    """The second call writes nothing, and tells the same."""
    first = export(drafts(9), tmp_path, FEW, NOISE)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")}
    again = export(drafts(9), tmp_path, FEW, NOISE)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")} == before
    assert (first.made, again.made) == (3, 0)
    assert replace(again, made=3) == first == replace(export(None, tmp_path, FEW, NOISE), made=3)


@pytest.mark.parametrize(
    ("options", "noise", "count", "told"),
    [
        pytest.param(replace(FEW, top_k=2), NOISE, 9, "options, top_k was 5, is 2", id="options"),
        pytest.param(
            replace(FEW, wording=Wording(layout="xml")), NOISE, 9, 'wording, layout was "numbered"', id="wording"
        ),
        pytest.param(FEW, profile(ocr=0.1), 9, "options, profile was", id="profile"),
        pytest.param(FEW, NOISE, 7, "other drafts", id="drafts"),
        pytest.param(FEW, NOISE, 4, "from more drafts", id="fewer"),
        pytest.param(FEW, NOISE, 30, "other drafts", id="more"),
    ],
)
def test_nothing_else_goes_on_with_an_export(
    tmp_path: Path, options: ExportOptions, noise: Profile, count: int, told: str
) -> None:
    """What differs is named, and the files stay as they are."""
    export(drafts(9), tmp_path, FEW, NOISE)
    before = content(tmp_path)
    with pytest.raises(ConfigurationError, match=told):
        export(drafts(count), tmp_path, options, noise)
    assert content(tmp_path) == before


def test_only_an_exports_folder_is_written_to(tmp_path: Path) -> None:
    """A folder with other things in it is refused, and none of them is touched."""
    (tmp_path / ".notes.1-2.tmp").write_text("mine")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds thesis\.txt"):
        export(drafts(1), tmp_path, FEW, NOISE)
    assert len(list(tmp_path.iterdir())) == 2


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    """The second is told so."""
    with FolderLock(tmp_path), pytest.raises(StoreLockedError):
        export(drafts(1), tmp_path, FEW, NOISE)


def test_a_full_disk_tears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file; no half a file is left, and with room again the export goes on."""
    rename, left = os.replace, iter(range(9))

    def full(one: Any, other: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(one, other)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        export(drafts(9), tmp_path / "full", FEW, NOISE)
    monkeypatch.undo()
    assert not list((tmp_path / "full").rglob("*.tmp"))
    export(drafts(9), tmp_path / "full", FEW, NOISE)
    export(drafts(9), tmp_path / "room", FEW, NOISE)
    assert content(tmp_path / "full") == content(tmp_path / "room")


def test_changed_drafts_are_noticed(tmp_path: Path) -> None:
    """A part that is not as it was written is not exported from."""
    export(drafts(9), tmp_path, FEW, NOISE)
    place = tmp_path / "drafts" / "part-00001.jsonl"
    place.write_bytes(place.read_bytes().replace(b"loom", b"boom"))
    (tmp_path / "records" / "part-00001.jsonl").unlink()
    with pytest.raises(StoreDamagedError, match=r"part-00001\.jsonl is not the file"):
        export(None, tmp_path, FEW, NOISE)


def test_drafts_must_be_there_and_have_ids_of_their_own(tmp_path: Path) -> None:
    """None of them, two of one id, or an id that cannot be written, is said."""
    with pytest.raises(ConfigurationError, match="no complete drafts"):
        export(None, tmp_path / "none", FEW, NOISE)
    with pytest.raises(ConfigurationError, match="2 drafts have the id 'd1'"):
        export([draft(1), draft(1)], tmp_path / "twice", FEW, NOISE)
    with pytest.raises(ConfigurationError, match=r"part-00002.*'d1' is that of .*part-00000\.jsonl, line 2, too"):
        export((draft(each) for each in (*range(9), 1)), tmp_path / "apart", FEW, NOISE)
    with pytest.raises(ConfigurationError, match="half a character"):
        export([replace(draft(1), id="\ud800")], tmp_path / "half", FEW, NOISE)


def test_no_drafts_make_an_empty_set(tmp_path: Path) -> None:
    """Nothing is written but what says so."""
    made = export([], tmp_path, FEW, NOISE)
    assert (made.records, made.shards) == (0, 0)
    assert describe(tmp_path).tallies.records == 0


def test_signs_that_files_cannot_hold_do_no_harm(tmp_path: Path) -> None:
    """Half characters come back from the records as they were; rows for trainers are plain UTF-8."""
    odd = "Mill\ud800 \u202eבדיקה 漢字 \u2028 e\u0301 \x00"
    passages = (Passage("n", f"{odd} built in 1000.", {"title": odd}, "d"), Passage("m", ""))
    one = Draft("d", Scene(f"When, {odd}?", passages, (), frozenset(["n"]), "1000"))
    export([one], tmp_path, FEW, profile())
    (found,) = records(tmp_path)
    assert found.clean == passages
    for path in tmp_path.glob("prompt-completion/*.jsonl"):
        assert json.loads(path.read_bytes().decode("utf-8"))["completion"]


def test_half_characters_are_replaced_in_one_way(tmp_path: Path) -> None:
    """In every file for trainers and readers by U+FFFD, never by a question mark, which a text may mean."""
    assert training_line({"a\ud800": "b?\udc00"}).decode("utf-8") == '{"a\ufffd": "b?\ufffd"}\n'
    assert encodable("\ud83d\ude00 \ude00") == "\U0001f600 \ufffd"
    export([draft(1, question="When, \ud800, was the loom of mill 1 built")], tmp_path, FEW, profile())
    describe(tmp_path)
    (path,) = tmp_path.glob("prompt-completion/*.jsonl")
    for place in (path, *tmp_path.glob("report.*"), tmp_path / "README.md"):
        assert not re.search("When, \\?,", place.read_text("utf-8"))


@given(st.dictionaries(st.text(), st.text(st.characters(codec=None))))
def test_a_line_reads_back_alike(row: dict[str, str]) -> None:
    """And is one line, in UTF-8."""
    text = line(row)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    assert json.loads(text.decode("utf-8")) == row
    training_line(row).decode("utf-8")


@given(st.lists(st.text(min_size=1, max_size=3), max_size=40), st.integers(1, 10), st.randoms())
def test_a_sample_does_not_depend_on_the_order(ids: list[str], size: int, draw: Any) -> None:
    """The same passages come out, as many as fit, each once."""
    one, other = Sample(size), Sample(size)
    one.add(Passage(id_, "text") for id_ in ids)
    draw.shuffle(ids)
    for id_ in ids:
        other.add([Passage(id_, "text")])
    assert one.passages() == other.passages()
    assert len(one.passages()) == min(size, len(set(ids)))


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_read_back_alike() -> None:
    """From JSON, with the same hash; another value has another hash."""
    options = ExportOptions(
        seed=-3, top_k=2, abstain_share=0.2, wording=Wording(abstain=("No.", "Not there.")), held_out_kinds=("ocr",)
    )
    again = ExportOptions.from_json(json.loads(json.dumps(options.to_json())))
    assert again == options
    assert again.hash == options.hash != replace(options, seed=4).hash


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"top_k": 0}, "top_k: a whole number of 1 or more", id="top_k"),
        pytest.param({"seed": "a"}, "seed: a whole number", id="seed"),
        pytest.param({"p_gold": 1.5}, "p_gold: a share", id="p_gold"),
        pytest.param({"strength": float("nan")}, "strength: a number", id="strength"),
        pytest.param({"formats": ("csv",)}, "formats: no 'csv'; there are prompt-completion", id="formats"),
        pytest.param({"formats": ()}, "formats: a tuple", id="no-formats"),
        pytest.param({"held_out_kinds": ("ocr", "ocr")}, "held_out_kinds: a name stands there twice", id="twice"),
        pytest.param({"splits": {"train": 1.0}}, "splits: shares of train, dev, test", id="splits"),
        pytest.param({"splits": {"train": 0.8, "dev": 0.1, "test": 0.2}}, "sum to 1, not to 1.1", id="sum"),
        pytest.param({"p_gold": 0.5, "abstain_share": 0.5}, "give one of them", id="both"),
        pytest.param({"p_gold": 0.5, "held_out_kinds": ("gold_removed",)}, "in every part", id="held-out-gold"),
    ],
)
def test_senseless_options_are_refused(change: dict[str, Any], told: str) -> None:
    """With the field's name and what is expected; also where they are read from JSON."""
    with pytest.raises(ConfigurationError, match=told):
        ExportOptions(**change)
    row = json.loads(json.dumps({**ExportOptions().to_json(), **change}))
    with pytest.raises(ConfigurationError, match=rf"here: .*{told.split(':')[0]}"):
        ExportOptions.from_json(row, "here")


def test_unknown_options_are_named() -> None:
    """As those of a newer version."""
    with pytest.raises(ConfigurationError, match="not understood: colour"):
        ExportOptions.from_json({"colour": "red"})
