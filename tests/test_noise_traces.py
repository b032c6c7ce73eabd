"""Recorded retrievals: what a line holds and what it keeps back, reading it, profiles and lifts from it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from fakes import WordsEmbedding
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from trace_zoo import trace

from llama_index_hybridmem import HybridMemoryIndex
from llama_index_hybridmem.costs.exporters.jsonl import JsonlTraces
from llama_index_hybridmem.costs.exporting import Exporter, Finished
from llama_index_hybridmem.costs.handler import CostLatencyHandler
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise import findings
from llama_index_hybridmem.noise.findings import Finding
from llama_index_hybridmem.noise.postprocessor import NoiseInjectionPostprocessor
from llama_index_hybridmem.noise.profiles import from_index, from_traces
from llama_index_hybridmem.noise.retrievals import Found, Retrieval, lift
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.noise.traces import RetrievalTraces, read_retrievals

SECRET = "Dennard"


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of passages that say CUT, and one of questions for which nobody says GOLD."""
    monkeypatch.setattr(findings, "_REGISTERED", {})

    @findings.of_passage("cut", "truncation")
    def _(passage: Passage, scene: Scene) -> Finding | None:
        """Says CUT."""
        return Finding("truncation", "truncate_tail", 0.5, ((0, 1),)) if "CUT" in passage.text else None

    @findings.of_scene("gold", "gold_removed")
    def _(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
        """Nobody says GOLD."""
        if not any("GOLD" in each.text for each in scene.passages):
            yield None, Finding("gold_removed", "gold_removed", 1.0)


def node(text: str, number: int = 0, **metadata: Any) -> NodeWithScore:
    """A node of the document SECRET.pdf."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"{SECRET}.pdf")}
    return NodeWithScore(
        node=TextNode(id_=f"n{number}", text=text, metadata=metadata, relationships=source), score=0.25
    )


def finished(*nodes: NodeWithScore, question: str | None = "Who?", **tags: str) -> Finished:
    """A query that got these nodes."""
    return Finished(trace("t", tags=tags, answer="abstained"), question, Response("He.", list(nodes)), "He.")


def line_of(path: Path) -> dict[str, Any]:
    """The file's only line."""
    (line,) = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert isinstance(row, dict)
    return row


def retrieval(number: int, *kinds: Any, **fields: Any) -> Retrieval:
    """A retrieval of one passage in which these kinds were found."""
    found = tuple(Finding(kind, "truncate_tail", 0.5) for kind in kinds)
    return Retrieval(f"t{number}", 1.0, (Found(found),), **{"detectors": findings.versions(), **fields})


# -- recording ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_without_texts_only_counts_leave(tmp_path: Path) -> None:
    """No question, answer, text, title, value or id: kinds, severities, ranks, scores, and a hash for the document."""
    path = tmp_path / "retrievals.jsonl"
    traces = RetrievalTraces(path)
    traces.export(finished(node(f"{SECRET} CUT", 1, title=SECRET), node(SECRET, 2), question=SECRET, feedback="bad"))
    row = line_of(path)
    assert SECRET not in path.read_text(encoding="utf-8")
    assert "He." not in path.read_text(encoding="utf-8")
    assert row["passages"][0]["findings"] == [{"kind": "truncation", "operator": "truncate_tail", "severity": 0.5}]
    assert [(each["rank"], each["score"]) for each in row["passages"]] == [(1, 0.25), (2, 0.25)]
    assert len(row["passages"][0]["source"]) == 16
    assert row["findings"] == [{"kind": "gold_removed", "operator": "gold_removed", "severity": 1.0}]
    assert (row["id"], row["k"], row["status"], row["feedback"], row["abstained"]) == ("t", 2, "ok", "bad", True)
    assert row["detectors"] == {"cut": 1, "gold": 1}


@pytest.mark.usefixtures("detectors")
def test_with_texts_a_query_comes_back_whole(tmp_path: Path) -> None:
    """Question, answer and passages with their metadata, so that they can be exported and looked at again."""
    path = tmp_path / "retrievals.jsonl"
    RetrievalTraces(path, texts=True).export(finished(node("CUT \ud83d \x00 \u2028 é", 1, title="T"), feedback="good"))
    (found,) = read_retrievals(path)
    assert (found.question, found.answer, found.good) == ("Who?", "He.", True)
    assert found.scene == Scene("Who?", (Passage("n1", "CUT ? \x00 \u2028 é", {"title": "T"}, f"{SECRET}.pdf", 0.25),))
    assert found.kinds() == {"truncation", "gold_removed"}
    assert found.looked_for() == {"truncation", "gold_removed"}


@pytest.mark.usefixtures("detectors")
def test_what_got_nothing_is_left_out(tmp_path: Path) -> None:
    """An answer without sources is no retrieval; without a question only the passages are judged."""
    path = tmp_path / "retrievals.jsonl"
    traces: Exporter = RetrievalTraces(path)
    traces.export(finished())
    traces.export(Finished(trace("t"), "Who?"))
    assert not path.exists()
    traces.export(finished(node("CUT"), question=None))
    assert line_of(path)["detectors"] == {"cut": 1}
    traces.close()


@pytest.mark.usefixtures("detectors")
def test_injected_noise_is_not_taken_for_the_apps_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A query that was stressed on purpose says nothing about retrieval: it is left out, and told once."""
    noisy = NoiseInjectionPostprocessor(rates={"truncate_tail": 1.0})
    broken = noisy.postprocess_nodes([node("One sentence of some length. And a second one.")], query_str="Who?")
    traces: Exporter = RetrievalTraces(tmp_path / "retrievals.jsonl")
    traces.export(finished(*broken))
    traces.export(finished(*broken))
    assert not (tmp_path / "retrievals.jsonl").exists()
    assert [record.message for record in caplog.records if "injected noise" in record.message][1:] == []
    assert "queries with injected noise are not recorded" in caplog.text
    traces.close()


@pytest.mark.usefixtures("detectors")
def test_files_rotate_and_are_read_in_order(tmp_path: Path) -> None:
    """As those of JsonlTraces; what was put aside is read first, and can be read alone."""
    path = tmp_path / "retrievals.jsonl"
    traces = RetrievalTraces(path, max_bytes=700, keep=20)
    for number in range(12):
        traces.export(Finished(trace(f"t{number}"), "Who?", Response("x", [node("CUT")])))
    assert (tmp_path / "retrievals.2.jsonl").exists()
    assert [each.id for each in read_retrievals(path)] == [f"t{number}" for number in range(12)]
    assert next(iter(read_retrievals(tmp_path / "retrievals.1.jsonl"))).id != "t0"


def test_a_real_engine_is_recorded(tmp_path: Path) -> None:
    """Hybrid memory asked through the handler: what its own detectors saw, with route, tag and the shared id."""
    path, encoder = tmp_path / "retrievals.jsonl", WordsEmbedding()
    texts = ["Robert Dennard invented DRAM at IBM.", "```python\nprint('DRAM')", "NVM keeps its state without power."]
    handler = CostLatencyHandler(exporters=[RetrievalTraces(path, texts=True)])
    nodes = [TextNode(id_=f"n{number}", text=text) for number, text in enumerate(texts)]
    with HybridMemoryIndex.from_documents([], embed_model=encoder) as index:
        index.insert_nodes(nodes)
        with handler.attach(), handler.tags(feedback="bad", tenant="acme"):
            response = index.as_query_engine(ScriptedLLM(reply="Dennard [1].")).query("Who invented DRAM?")
            (traced,) = handler.traces()
        measured = from_index(index, errors={})
    assert handler.health()["exporters"]["retrievals"] == {"exported": 1, "failed": 0, "last_error": None}
    (found,) = read_retrievals(path)
    assert (found.id, found.tenant, found.good, found.route) == (traced.id, "acme", False, traced.route)
    scene = found.scene
    assert scene is not None
    assert [each.id for each in scene.passages] == [each.node_id for each in response.source_nodes]
    assert not any("hybridmem" in each.metadata for each in scene.passages)
    broken = [each for each in found.passages if any(one.kind == "markdown" for one in each.findings)]
    assert [each.passage.text for each in broken if each.passage] == [texts[1]]
    assert measured.passages == 3
    assert measured.kinds["markdown"].rate == pytest.approx(1 / 3, abs=1e-6)
    assert from_traces(path, errors={}).kinds["markdown"].rate == pytest.approx(1 / len(scene.passages), abs=1e-6)


@pytest.mark.usefixtures("detectors")
def test_any_engine_is_recorded_or_measured(tmp_path: Path) -> None:
    """LlamaIndex's own, as an exporter and from its responses; these do not say what was asked."""
    path = tmp_path / "retrievals.jsonl"
    index = VectorStoreIndex.from_documents([Document(text="CUT")], embed_model=WordsEmbedding())
    handler = CostLatencyHandler(exporters=[RetrievalTraces(path)])
    with handler.attach():
        response = index.as_query_engine(llm=ScriptedLLM()).query("Who?")
        handler.flush()
    assert from_traces(path, errors={}).kinds["gold_removed"].rate == 1
    found = from_traces([response], errors={})
    assert (found.questions, set(found.kinds)) == (1, {"truncation"})


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_a_torn_last_line_is_fine_and_a_damaged_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A writer may have been killed; but what stands in the middle must be whole, or be let go on purpose."""
    path = tmp_path / "retrievals.jsonl"
    lines = [json.dumps(retrieval(number).to_json()) for number in range(3)]
    path.write_text("\n".join([*lines, lines[0][:40]]), encoding="utf-8")
    assert [each.id for each in read_retrievals(path)] == ["t0", "t1", "t2"]
    path.write_text("\n".join([lines[0], lines[1][:40], lines[2], ""]), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"retrievals.jsonl, line 2: no JSON"):
        list(read_retrievals(path))
    with caplog.at_level(logging.WARNING):
        assert [each.id for each in read_retrievals(path, strict=False)] == ["t0", "t2"]
    assert "line 2" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"retrieval": 2}, "schema 1 to 1"),
        ({"id": 5}, "5 is no str"),
        ({"asked": True}, "True is no float"),
        ({"passages": None}, "wrong form"),
        ({"passages": [{"rank": 1}]}, "lacks the field 'findings'"),
        ({"findings": [{"kind": "smell", "operator": "x", "severity": 1}]}, "'smell' is no kind of noise"),
        ({"detectors": []}, "wrong form"),
        ({"feedback": "so so"}, "lacks the field 'so so'"),
        ({"question": 5}, "5 is no str"),
        ({"asked": math.inf}, "inf is no float"),
        (
            {"passages": [{"findings": [], "source": None, "score": None, "passage": {"id": "n", "text": None}}]},
            "no str",
        ),
    ],
)
def test_a_line_of_the_wrong_form_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """File, line and what is wrong with it."""
    path = tmp_path / "retrievals.jsonl"
    path.write_text(json.dumps({**retrieval(1).to_json(), **change}) + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"retrievals.jsonl, line 1: .*{said}"):
        list(read_retrievals(path))


@pytest.mark.usefixtures("detectors")
def test_a_killed_writer_costs_one_line(tmp_path: Path) -> None:
    """The next writer ends its torn line with a line break: the others are measured, and the profile tells of it."""
    path = tmp_path / "retrievals.jsonl"
    traces = RetrievalTraces(path)
    traces.export(finished(node("CUT")))
    with path.open("ab") as file:
        file.write(path.read_bytes()[:60])
    traces.export(finished(node("x")))
    found = from_traces(path, errors={})
    assert found.source.startswith("2 queries of retrievals.jsonl, 1 damaged line left out; ")
    assert found.kinds["truncation"].rate == 0.5


@pytest.mark.parametrize("content", ['{"schema": 1}', "[1]", '{"schema": 1}\n', "\x1f\x8b\n\x00"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: str) -> None:
    """Whether or not its last line has an end: whole JSON that is no retrieval was never torn."""
    path = tmp_path / "other.jsonl"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="other.jsonl, line 1: no "):
        from_traces(path)


def test_traces_of_costs_are_not_enough(tmp_path: Path) -> None:
    """Whoever names the file of JsonlTraces is told what to record; a file that is not there is named."""
    path = tmp_path / "traces.jsonl"
    JsonlTraces(path).export(Finished(trace("t")))
    with pytest.raises(ConfigurationError, match=r"JsonlTraces.*RetrievalTraces\(FILE\)"):
        from_traces(path)
    with pytest.raises(ConfigurationError, match="no such file"):
        from_traces(tmp_path / "none.jsonl")


# -- measuring ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_a_file_is_measured(tmp_path: Path) -> None:
    """Shares of what was recorded, in constant memory; with texts or without, the same."""
    found = []
    for texts in (False, True):
        path = tmp_path / str(texts) / "retrievals.jsonl"
        traces = RetrievalTraces(path, texts)
        for _ in range(3):
            traces.export(finished(node("CUT", 1), node("GOLD", 2)))
        traces.export(finished(node("x")))
        found.append(from_traces(path, errors={}))
    assert found[0] == found[1]
    assert found[0].kinds["truncation"].rate == pytest.approx(3 / 7, abs=1e-6)
    assert found[0].kinds["gold_removed"].rate == 0.25
    assert found[0].top_k == {1: 1, 2: 3}
    assert found[0].source.startswith("4 queries of retrievals.jsonl; not measured: ")


@pytest.mark.usefixtures("detectors")
def test_what_older_detectors_saw_does_not_count() -> None:
    """A detector that has changed since counts no more, the others do; with texts today's look again."""
    older = {"cut": 0, "gold": 1}
    found = from_traces([retrieval(1, "truncation", detectors=older), retrieval(2)], errors={})
    assert found.kinds["truncation"].rate == 0
    assert found.kinds["truncation"].source.startswith("measured on 1 passages")
    assert found.kinds["gold_removed"].source.startswith("measured on 2 questions")
    whole = Retrieval("t", 1.0, (Found(passage=Passage("n", "CUT")),), detectors=older, question="Who?")
    assert from_traces([whole], errors={}).kinds["truncation"].rate == 1
    found = from_traces([retrieval(1), retrieval(2, detectors={})], errors={})
    assert "1 of them by older detectors" in found.source
    with pytest.raises(ConfigurationError, match="all 1 queries were recorded by detectors of other versions"):
        from_traces([retrieval(1, detectors={})])


# -- feedback ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_noise_before_bad_answers_is_weighed_against_that_before_good_ones() -> None:
    """Twice as often before bad ones, with an interval around it; queries without an opinion do not count."""
    asked = [retrieval(n, *(["truncation"] if n < 40 else []), good=False) for n in range(100)]
    asked += [retrieval(n, *(["truncation"] if n < 20 else []), good=True) for n in range(100)]
    asked += [retrieval(n, "truncation") for n in range(100)]
    found = lift(asked)["truncation"]
    assert (found.bad, found.good) == (0.4, 0.2)
    spread = math.exp(1.96 * math.sqrt(1 / 40 - 1 / 100 + 1 / 20 - 1 / 100))
    assert [found.low, found.ratio, found.high] == pytest.approx([2 / spread, 2, 2 * spread], rel=1e-4)


@pytest.mark.usefixtures("detectors")
def test_opinions_may_come_later() -> None:
    """By id, over what was tagged; a kind that one side never has still gets a finite ratio, one side alone none."""
    asked = [retrieval(n, *(["truncation"] if n < 5 else []), good=True) for n in range(10)]
    assert lift(asked) == {}
    found = lift(asked, {f"t{n}": n >= 5 for n in range(10)})
    assert set(found) == {"truncation", "gold_removed"}
    assert (found["truncation"].bad, found["truncation"].good) == (1, 0)
    assert 0 < found["truncation"].low < 1 < found["truncation"].ratio < found["truncation"].high < math.inf
    assert found["gold_removed"].ratio == pytest.approx(1)
