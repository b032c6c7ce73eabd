"""The command line: what it reads, what it writes where, and with which code it ends; in process but for one start."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from rich.console import Console

from llama_index_hybridmem import sample
from llama_index_hybridmem.cli import demo as demo_module
from llama_index_hybridmem.cli.files import InputFile, Problem, find, read
from llama_index_hybridmem.cli.llms import resolve
from llama_index_hybridmem.cli.main import main
from llama_index_hybridmem.cli.markup import decoded, to_markdown
from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError

ENERGY = "How does the energy efficiency of NVM compare to DRAM?"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Standard output with every run of white space as one space, so that a broken line breaks no test."""
        return " ".join(self.out.split())

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value."""
        return json.loads(self.out)


def run(*arguments: object) -> Result:
    """Runs the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return Result(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def written(folder: Path, texts: dict[str, str]) -> Path:
    """Writes files into a folder."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of file, good and bad."""
    folder = written(
        tmp_path_factory.mktemp("corpus"),
        {
            "nvm.md": "# NVM\n\nNVM keeps its state without power, so its standby energy is lower than that of DRAM. "
            "Writing to NVM costs more energy than writing to DRAM.\n",
            "people/dennard.md": "# Robert Dennard\n\nRobert Dennard was born in Terrell, Texas.\n",
            "dram.txt": "DRAM was invented by Robert Dennard at IBM. DRAM is refreshed every 64 ms.\n",
            "page.html": "<title>Flash</title><p>Flash memory was invented by <b>Fujio Masuoka</b> at Toshiba.</p>",
            "rows.jsonl": '{"text": "ReRAM stores bits as resistance.", "title": "ReRAM", "id": "r1", "year": 2008}\n'
            "not json\n"
            '{"title": "no text"}\n'
            '{"text": "FeRAM uses lead zirconate titanate.", "year": "1999"}\n',
            ".hidden.md": "# Hidden\n\nNobody reads this.\n",
            "code.py": "print('not a document')\n",
            "empty.md": "\n",
        },
    )
    (folder / "latin.md").write_bytes(b"caf\xe9")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "people" / "loop").symlink_to(folder, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A store made from the corpus, and what the command said."""
    store = tmp_path_factory.mktemp("made") / "store"
    facts = written(tmp_path_factory.mktemp("facts"), {"f.csv": "subject,relation,object\nDRAM,needs,refresh\n"})
    return store, run("ingest", corpus, "--store", store, "--facts", facts / "f.csv", "--json")


@pytest.fixture(scope="module")
def store(first: tuple[Path, Result]) -> Path:
    """A store made from the corpus."""
    return first[0]


# -- ingest -----------------------------------------------------------------------------------------------------------


def test_ingest_reads_what_it_can_and_lists_the_rest(first: tuple[Path, Result], corpus: Path) -> None:
    """Every kind of file is read; what cannot be is reported with place and reason and is not fatal."""
    result = first[1]
    assert result.code == 0
    assert result.json["written"] == result.json["totals"]["documents"] == 6
    assert result.json["totals"]["facts"] == result.json["facts"] == 1
    reasons = {os.path.relpath(each["place"], corpus): each["reason"] for each in result.json["problems"]}
    assert sorted(reasons) == ["broken.pdf", "empty.md", "latin.md", "rows.jsonl:2", "rows.jsonl:3"]
    assert "0xe9 at 3" in reasons["latin.md"]
    assert "PDF" in reasons["broken.pdf"]
    assert '"text"' in reasons["rows.jsonl:3"]


def test_ingest_again_writes_only_what_changed(tmp_path: Path) -> None:
    """The second run finds everything there; after an edit it writes that document alone."""
    folder = written(tmp_path / "docs", {"a.md": "# A\n\nAlpha.\n", "b.md": "# B\n\nBeta.\n"})
    assert run("ingest", folder, "-s", tmp_path / "store", "--json").json["written"] == 2
    written(folder, {"b.md": "# B\n\nBeta two.\n"})
    again = run("ingest", folder, "-s", tmp_path / "store")
    assert again.code == 0
    assert "2  (1 written, 1 unchanged)" in again.out
    assert "Not read" not in again.err


def test_a_terminal_sees_progress(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress goes to standard error, and only to a terminal."""
    terminal = partial(Console, stderr=True, force_terminal=True, width=80)
    monkeypatch.setattr("llama_index_hybridmem.cli.screen.aside", terminal)
    assert "1 documents; files" in run("ingest", corpus / "nvm.md", "--store", tmp_path / "store", "--json").err
    monkeypatch.undo()
    assert run("ingest", corpus / "nvm.md", "--store", tmp_path / "store", "--json").err == ""


def test_ingest_of_nothing_fails_and_makes_no_store(tmp_path: Path) -> None:
    """When no file can be read the code is 1, the reason is told, and no folder appears."""
    result = run("ingest", tmp_path / "absent", "--store", tmp_path / "store")
    assert result.code == 1
    assert "absent: no such file or folder" in result.err
    assert not (tmp_path / "store").exists()
    assert run("ingest", "--store", tmp_path / "store").code == 2


def test_another_file_with_a_taken_id_replaces_nothing(tmp_path: Path) -> None:
    """Two folders may each have a README: the second is reported, not written over the first, now and later."""
    one = written(tmp_path / "one", {"README.md": "# One\n\nThe first.\n"})
    two = written(tmp_path / "two", {"README.md": "# Two\n\nThe second.\n", "other.md": "# Other\n\nFree.\n"})
    found, problems = find([one, two, one / "README.md"])
    assert [file.doc_id for file in found] == ["README.md", "other.md"]
    assert [problem.place for problem in problems] == [str(two / "README.md")]
    run("ingest", one, "--store", tmp_path / "store", "--json")
    later = run("ingest", two, "--store", tmp_path / "store", "--json").json
    assert later["written"] == 1
    assert str(one / "README.md") in later["problems"][0]["reason"]
    moved = one.rename(tmp_path / "moved")
    assert run("ingest", moved, "--store", tmp_path / "store", "--json").json["written"] == 1


def test_a_store_keeps_its_language(store: Path, corpus: Path) -> None:
    """Another language than the store was made with is refused, by name."""
    result = run("ingest", corpus / "nvm.md", "--store", store, "--language", "german")
    assert result.code == 2
    assert "english, not german" in result.err


# -- files ------------------------------------------------------------------------------------------------------------


def documents_of(path: Path) -> list[Any]:
    """What one file reads as."""
    return list(read(InputFile(path, path.name)))


def test_folders_are_searched_without_hidden_files_and_loops(corpus: Path) -> None:
    """Known kinds below a folder, hidden ones and other kinds left out, a link back up followed to no end."""
    found, problems = find([corpus])
    names = [file.doc_id for file in found]
    assert names == sorted(names, key=lambda name: ("/" in name, name))
    assert {"nvm.md", "people/dennard.md", "rows.jsonl"} <= set(names)
    assert not {".hidden.md", "code.py"} & set(names)
    assert not any("loop" in name for name in names)
    assert problems == []


def test_a_named_file_is_read_whatever_its_ending(corpus: Path) -> None:
    """Who names a file means it."""
    (document,) = documents_of(corpus / "code.py")
    assert document.doc_id == "code.py"
    assert document.metadata["file_name"] == "code.py"


def test_rows_keep_their_metadata_and_ids(corpus: Path) -> None:
    """Of a JSON line, id and title are used, the rest is metadata; without an id the line number is one."""
    rows = [row for row in documents_of(corpus / "rows.jsonl") if not isinstance(row, Problem)]
    assert [row.doc_id for row in rows] == ["r1", "rows.jsonl#4"]
    assert rows[0].metadata["title"] == "ReRAM"
    assert rows[0].metadata["year"] == 2008
    assert "file_name" not in rows[1].metadata


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "x", "score": NaN}', "NaN is no JSON"),
        ('{"text": "x", "hybridmem": 1}', "kept for provenance"),
        ('{"text": "\\ud800"}', "not UTF-8"),
        ('["text"]', "expected an object"),
    ],
)
def test_a_bad_row_costs_itself_only(line: str, reason: str, tmp_path: Path) -> None:
    """A line that no store could hold is named by number, and the next one is read."""
    written(tmp_path, {"r.jsonl": f'{line}\n{{"text": "good"}}\n'})
    problem, good = documents_of(tmp_path / "r.jsonl")
    assert problem.place.endswith("r.jsonl:1")
    assert reason in problem.reason
    assert good.text == "good"


def test_damaged_bytes_in_a_row_cost_that_row_only(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 spoil their line, not the file."""
    (tmp_path / "r.jsonl").write_bytes(b'{"text": "caf\xe9"}\n{"text": "good"}\n')
    problem, good = documents_of(tmp_path / "r.jsonl")
    assert problem.reason == "not UTF-8 text"
    assert good.text == "good"


def test_pdf_text_is_read(tmp_path: Path) -> None:
    """LlamaIndex's reader gives a PDF's pages as one document."""
    pytest.importorskip("llama_index.readers.file", reason="needs the extra 'files'")
    content = b"BT /F1 12 Tf 20 100 Td (Toggle MRAM) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    pdf, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(pdf)
    (tmp_path / "m.pdf").write_bytes(pdf + b"xref\n0 6\n0000000000 65535 f \n" + table + end)
    (document,) = documents_of(tmp_path / "m.pdf")
    assert "Toggle MRAM" in document.text


def test_a_pdf_without_its_reader_names_the_pip_line(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `files` PDFs are problems that say how to mend it; other files are read."""
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None)
    (problem,) = documents_of(corpus / "broken.pdf")
    assert 'pip install "llama-index-hybridmem[files]"' in problem.reason


def test_html_becomes_markdown() -> None:
    """Headings, lists, tables and code keep their structure; words of neighbouring elements stay apart."""
    page = (
        "<html><head><title>A &amp; B</title><style>p {}</style></head><body><nav><a>Home</a></nav>"
        "<h1><span>DRAM</span></h1><div>One<b>two</b></div><p>three<ul><li><p>first</p></li><li>second</ul>"
        "<pre>a\n  b</pre><table><tr><th>x<th></tr><tr><td><p>1</p><p>2|3</p></td><td>4</td></tr></table>after"
        "<script>no()</script>"
    )
    title, text = to_markdown(page)
    assert title == "A & B"
    assert text.split("\n\n") == [
        "# DRAM",
        "Onetwo",
        "three",
        "- first\n- second",
        "```\na\n  b\n```",
        "| x |  |\n| --- | --- |\n| 1 2\\|3 | 4 |",
        "after\n",
    ]
    assert to_markdown("") == ("", "")


def test_html_is_decoded_as_it_says() -> None:
    """A page names its character set; without one, or with an unknown one, it is UTF-8."""
    assert decoded(b'<meta charset="latin-1">\xe9').endswith("é")
    assert decoded("é".encode()) == "é"
    assert decoded(b"<meta charset=nonsense>\xc3\xa9").endswith("é")


# -- ask --------------------------------------------------------------------------------------------------------------


def test_ask_as_json_is_pure_json(store: Path) -> None:
    """A program gets one JSON value with sources, provenance, sentences and the engine's own account."""
    answer = run("ask", ENERGY, "--store", store, "--json").json
    assert answer["question"] == ENERGY
    assert answer["llm"] is None
    assert answer["text"] is None
    assert answer["hybridmem"]["route"] == "hybrid"
    assert set(answer["hybridmem"]["stores"]) == {"vector", "keyword", "graph"}
    assert answer["sources"][0]["document"] == "nvm.md"
    assert answer["sources"][0]["title"] == "NVM"
    assert answer["sources"][0]["stores"]["keyword"]["rank"] == 1
    assert "standby energy is lower" in answer["sentences"][0]["text"]


def test_ask_says_plainly_that_no_model_was_asked(store: Path) -> None:
    """Without --llm the screen says so, and shows route, milliseconds, the best sentences and the sources."""
    result = run("ask", ENERGY, "--store", store)
    assert result.code == 0
    assert "No language model was asked" in result.out
    assert re.search(r"Route +hybrid", result.out)
    assert re.search(r"graph [\d.,]+ ms", result.out)
    assert "[1] NVM" in result.out
    assert "rank in each memory" not in result.out
    assert max(map(len, result.out.splitlines())) <= 100
    assert "\x1b" not in result.out


def test_explain_adds_ranks_paths_and_evidence(store: Path) -> None:
    """--explain shows the rank in each memory, over which names the graph came, facts, and the evidence."""
    words = run("ask", "Where was the inventor of DRAM born?", "--store", store, "--explain").words
    assert "rank in each memory: vector keyword graph" in words
    assert "Evidence" in words
    assert re.search(r"people/dennard.md · .*?via Robert Dennard", words)
    assert "DRAM → needs → refresh" in words


@pytest.mark.parametrize(("value", "title"), [("2008", "ReRAM"), ("1999", "")])
def test_filter_restricts_every_memory(store: Path, value: str, title: str) -> None:
    """--filter KEY=VALUE matches numbers and text alike, and nothing else comes back."""
    answer = run("ask", "What stores bits?", "--store", store, "--filter", f"year={value}", "--json").json
    assert [source["title"] for source in answer["sources"]] == [title]
    assert run("ask", "x", "--store", store, "--filter", "year").code == 2


def test_a_question_that_needs_no_documents_asks_none(store: Path) -> None:
    """Arithmetic takes the parametric route; without a model the screen says that there is no answer."""
    result = run("ask", "What is 17 * 23?", "--store", store)
    assert "parametric" in result.out
    assert "needs no documents" in result.out
    assert "Sources" not in result.out


def test_a_route_can_be_fixed(store: Path) -> None:
    """--route asks the memories of that route only; an unknown route is a usage error."""
    answer = run("ask", ENERGY, "--store", store, "--route", "vector", "--json").json
    assert set(answer["hybridmem"]["stores"]) == {"vector", "keyword"}
    assert run("ask", ENERGY, "--store", store, "--route", "sideways").code == 2


def test_a_model_answers_from_the_sources(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --llm the model's text and name stand first; where the sources do not answer, no model is asked."""
    llm = ScriptedLLM(reply="NVM needs less.")
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name: llm)
    answer = run("ask", ENERGY, "--store", store, "--llm", "smollm2", "--json").json
    assert (answer["text"], answer["llm"]) == ("NVM needs less.", llm.metadata.model_name)
    asked = len(llm.prompts)
    refused = run("ask", "Who painted Girl with a Pearl Earring?", "--store", store, "--llm", "smollm2")
    assert "do not seem to answer" in refused.out
    assert len(llm.prompts) == asked


def test_a_prompt_takes_many_questions(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a question each line of standard input is one, until an empty line."""
    monkeypatch.setattr("sys.stdin", io.StringIO("What is NVM?\nWhat is DRAM?\n\nnever asked\n"))
    lines = [json.loads(line) for line in run("ask", "--store", store, "--json").out.splitlines()]
    assert [line["question"] for line in lines] == ["What is NVM?", "What is DRAM?"]
    monkeypatch.setattr("sys.stdin", io.StringIO("What is NVM?"))
    assert "[1] NVM" in run("ask", "--store", store).out


def test_a_missing_store_is_one_line(tmp_path: Path) -> None:
    """A failure is one line on standard error with the way out, code 2, no traceback; --debug raises."""
    result = run("ask", "x", "--store", tmp_path / "none", "--json")
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"hybridmem: no store in .*hybridmem ingest PATH --store .*\n", result.err)
    with pytest.raises(ConfigurationError):
        main(["--debug", "ask", "x", "--store", str(tmp_path / "none")])


def test_an_unforeseen_error_is_one_line(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library raises ends in one line that says how to see more, code 1."""

    def broken(name: str | None) -> None:
        raise RuntimeError("a\nb")

    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", broken)
    result = run("ask", "x", "--store", store)
    assert result.code == 1
    assert result.err == "hybridmem: unexpected RuntimeError: a b (hybridmem --debug … shows where)\n"


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("gpt-5", "known: smollm2, huggingface:NAME"),
        ("smollm2:big", "known: smollm2"),
        ("ollama:", "known: smollm2"),
        ("openai-like:host,model", "openai-like:http://host:8000/v1,MODEL"),
        ("openai-like:http://host/v1", "openai-like:http://host:8000/v1,MODEL"),
    ],
)
def test_a_model_that_is_not_understood(value: str, said: str) -> None:
    """The message shows the forms there are."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        resolve(value)


@pytest.mark.parametrize(
    ("value", "module", "line"),
    [
        ("openai:gpt-5", "llama_index.llms.openai", "pip install llama-index-llms-openai"),
        ("ollama:llama3", "llama_index.llms.ollama", "pip install llama-index-llms-ollama"),
        ("openai-like:http://h/v1,m", "llama_index.llms.openai_like", 'pip install "llama-index-hybridmem[remote]"'),
    ],
)
def test_a_missing_integration_names_its_pip_line(
    value: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Integrations that are not installed are named with the line that installs them."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises((ConfigurationError, MissingExtraError), match=re.escape(line)):
        resolve(value)


def test_no_model_is_none() -> None:
    """Not naming a model and naming none are the same."""
    assert resolve(None) is None
    assert resolve("none") is None


# -- looking after ----------------------------------------------------------------------------------------------------


def test_eval_measures_the_users_questions(store: Path, tmp_path: Path) -> None:
    """Every memory on and off, with intervals; questions without a source are counted; a bad file is a usage error."""
    rows = [{"question": ENERGY, "gold": ["nvm"]}, {"question": "Who invented DRAM?", "expected_sources": ["dram.txt"]}]
    lines = [*map(json.dumps, rows), '{"question": "Why?", "expected_sources": []}']
    questions = written(tmp_path, {"q.jsonl": "\n".join(lines)}) / "q.jsonl"
    report = run("eval", questions, "--store", store, "--json").json
    assert (report["questions"], report["skipped"]) == (2, 1)
    assert report["arms"][0]["name"] == "hybrid"
    assert report["arms"][0]["metrics"]["recall@5"]["mean"] == 1.0
    table = run("eval", questions, "--store", store, "--hops", 1).out
    assert re.search(r"hybrid without graph +100.0", table)
    assert "100…100" in table
    assert run("eval", tmp_path / "absent.jsonl", "--store", store).code == 2


def test_stats_describe_the_store(store: Path) -> None:
    """As JSON the index's own stats, on the screen one line each."""
    counts = run("stats", "--store", store, "--json").json
    assert counts["graph"]["documents"] == 6
    assert counts["vector"]["points"] == counts["graph"]["passages"]
    assert "graph facts 1 graph" in run("stats", "--store", store).words


def test_a_store_can_be_looked_after(store: Path) -> None:
    """The commands optimize and reindex run on a store and say what they did; reindex wants to be told what."""
    assert re.search(r"\d+ points, \d+ of them compared one by one", run("optimize", "--store", store).out)
    assert "average length" in run("reindex", "--sparse", "--store", store).out
    assert run("reindex", "--store", store).code == 2


# -- demo -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three of the sample's documents in place of all, which take five seconds to index."""
    names = ["nvm-dram-energy.md", "robert-dennard.md", "dram-cell.md"]
    texts = {name: (sample.documents_folder() / name).read_text(encoding="utf-8") for name in names}
    folder = written(tmp_path / "documents", texts)
    monkeypatch.setattr(sample, "documents_folder", lambda: folder)
    return folder


def test_the_demo_asks_a_telling_selection() -> None:
    """The one on energy first, then two hops, a fact, an unanswerable one, one that needs no documents."""
    rows = demo_module._rows()
    assert rows[0]["question"] == ENERGY
    assert {row["kind"] for row in rows} == {"comparison", "two_hop", "single", "unanswerable", "no_retrieval"}


def test_the_demo_shows_answers_beside_sentences(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Route, generated answer, expected answer, sentences, facts, ranks and times of each question, and a summary."""
    llm = ScriptedLLM(reply="It depends.")
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", lambda name, max_tokens: llm)
    result = run("demo", "--store", tmp_path / "store")
    assert "3 documents" in result.words
    assert "135 million parameters" in result.words
    assert "--llm ollama:MODEL" in result.words
    assert "It depends." in result.words
    assert "Expected lower standby energy but higher write energy" in result.words
    assert "→ US patent 3,387,286 [" in result.words
    assert "in short" in result.words
    assert f"hybridmem ask --store {tmp_path / 'store'}" in result.out.replace("\n", "")


def test_the_demo_goes_on_without_its_model(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the default model is not installed the pip line is shown and the sources answer; a named one must be."""

    def missing(name: str, max_tokens: int) -> None:
        raise MissingExtraError("SmolLM2", "lora")

    monkeypatch.setenv("HYBRIDMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("llama_index_hybridmem.cli.llms.resolve", missing)
    report = run("demo", "--json").json
    assert 'pip install "llama-index-hybridmem[lora]"' in report["remark"]
    assert report["ingest"]["store"] == str(tmp_path / "cache" / "hybridmem-demo")
    assert report["answers"][0]["expected_sources"]["nvm-dram-energy"] is True
    assert [answer["llm"] for answer in report["answers"]] == [None] * len(demo_module.CHOSEN)
    (small_sample / "dram-cell.md").unlink()
    assert run("demo", "--json").json["ingest"]["totals"]["documents"] == 2
    assert run("demo", "--llm", "huggingface:x").code == 2


def test_what_a_question_cost_is_kept_and_told(store: Path, tmp_path: Path) -> None:
    """`--traces` appends what each question cost, `report` reads it; a place that cannot be written is told first."""
    file = tmp_path / "new" / "traces.jsonl"
    ids = [run("ask", ENERGY, "--store", store, "--traces", file, "--json").json["hybridmem"]["trace"] for _ in "ab"]
    assert [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()] == ids
    assert run("report", file, "--json").json["traces"] == 2
    refused = run("ask", ENERGY, "--store", store, "--traces", tmp_path)
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)


# -- the way in -------------------------------------------------------------------------------------------------------


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Every subcommand is listed with a sentence that fits; --version is the package's."""
    text = run("--help").out
    for name in ("ingest", "ask", "stats", "eval", "optimize", "reindex", "demo"):
        assert re.search(rf"^  {name} +\S.*\.$", text, re.MULTILINE), name
    assert "..." not in text.partition("Commands:")[2]
    from llama_index_hybridmem import __version__

    assert run("--version").out.strip() == __version__


def test_without_its_extra_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without typer or rich the command line ends with the line that installs them."""
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None if name == "rich" else name)
    result = run("--help")
    assert result.code == 2
    assert 'pip install "llama-index-hybridmem[cli]"' in result.err


def test_a_real_start_on_a_plain_terminal(store: Path) -> None:
    """A process with an ASCII terminal answers from the store, and loads nothing that costs seconds in vain."""
    code = (
        "import sys\nfrom llama_index_hybridmem.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*{'transformers', 'sentence_transformers', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    arguments: Sequence[str] = ["ask", "Where was the inventor of DRAM born?", "--explain", "--store", str(store)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert done.stderr.strip() == ""
    assert "Terrell, Texas" in done.stdout
    assert "DRAM ? needs ? refresh" in done.stdout
