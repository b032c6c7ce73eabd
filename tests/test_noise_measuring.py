"""Noise profiles: what is counted, how it is corrected, what cannot be measured, and how far two of them are apart."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise import findings
from llama_index_hybridmem.noise.defaults import default_profile
from llama_index_hybridmem.noise.distance import distance
from llama_index_hybridmem.noise.findings import Finding
from llama_index_hybridmem.noise.kinds import KINDS, LIST_KINDS, Kind
from llama_index_hybridmem.noise.measuring import NEEDS_QUESTION, RESERVOIR, Tally, corrected, measure
from llama_index_hybridmem.noise.passages import to_node, to_passage, to_passages
from llama_index_hybridmem.noise.profile import UNIFORM, KindRate, Profile
from llama_index_hybridmem.noise.profiles import PAIRS, from_index, from_traces, load, nodes_of, save
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.statistics import wilson


class Rates(NamedTuple):
    """A detector's error rates."""

    sensitivity: float
    specificity: float


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors that find what a text says of itself: "CUT .5", "ROT", a copy, and a list without "GOLD"."""
    monkeypatch.setattr(findings, "_REGISTERED", {})

    @findings.of_passage("cut", "truncation", version=3)
    def _(passage: Passage, scene: Scene) -> Finding | None:
        """Says CUT."""
        _, said, severity = passage.text.partition("CUT ")
        return Finding("truncation", "truncate_tail", float(severity.split()[0])) if said else None

    @findings.of_passage("rot", "encoding")
    def _(passage: Passage, scene: Scene) -> Finding | None:
        """Says ROT."""
        return Finding("encoding", "mojibake", 1.0) if "ROT" in passage.text else None

    @findings.of_scene("copies", "duplicate")
    def _(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
        """Says the same as one before it."""
        seen: set[str] = set()
        for each in scene.passages:
            if each.text in seen:
                yield each.id, Finding("duplicate", "duplicate", 1.0)
            seen.add(each.text)

    @findings.of_scene("gold", "gold_removed")
    def _(scene: Scene) -> Iterator[tuple[str | None, Finding]]:
        """Nobody says GOLD."""
        if not any("GOLD" in each.text for each in scene.passages):
            yield None, Finding("gold_removed", "gold_removed", 1.0)


def scene(*texts: str, question: str = "What?") -> Scene:
    """A question with passages of these texts."""
    return Scene(question, tuple(Passage(f"n{n}", text) for n, text in enumerate(texts)))


# -- measuring ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_shares_are_of_passages_and_of_questions() -> None:
    """Kinds of passages are counted per passage, kinds of lists per question; what occurs nowhere is a measured 0."""
    found = measure([scene("GOLD", "CUT 0.5", "CUT 0.1"), scene("a")], source="two")
    assert found.kinds["truncation"].rate == found.kinds["truncation"].seen == 0.5
    assert found.kinds["gold_removed"].rate == 0.5
    assert (found.passages, found.questions, found.top_k) == (4, 2, {3: 1, 1: 1})
    assert found.kinds["encoding"].rate == 0
    assert found.kinds["encoding"].high > 0.4  # of 4 passages
    assert found.kinds["truncation"].operators == {"truncate_tail": 1.0}
    assert found.detectors == {"cut": 3, "rot": 1, "copies": 1, "gold": 1}


@pytest.mark.usefixtures("detectors")
def test_kinds_that_nobody_looks_for_are_left_out_and_named() -> None:
    """Absent is not zero: a kind without a detector, or with one that errs too often, has no rate, and is named."""
    errors: dict[Kind, Rates] = {"encoding": Rates(0.3, 0.85), "truncation": Rates(0.9, 0.95)}
    found = measure([scene("GOLD")], errors, source="one")
    assert set(found.kinds) == {"truncation", "duplicate", "gold_removed"}
    assert found.source.startswith("one; not measured: ")
    assert "markdown, html, ocr, " in found.source
    assert "order (no detector), encoding (detectors err" in found.source
    assert "(detectors err too often, sensitivity 0.30 and specificity 0.85)" in found.source
    assert "corrected for sensitivity 0.90" in found.kinds["truncation"].source
    assert "not corrected" in found.kinds["duplicate"].source


@pytest.mark.usefixtures("detectors")
def test_without_a_question_only_texts_are_judged() -> None:
    """Chunks of an index have no kind that needs a question, and are no query's list."""
    found = measure([scene("CUT 1", "a", question=" ")])
    assert not set(found.kinds) & NEEDS_QUESTION
    assert (found.kinds["truncation"].rate, found.passages, found.questions, found.top_k) == (0.5, 2, 0, {})


@pytest.mark.usefixtures("detectors")
def test_severity_comes_as_quartiles_of_the_worst_finding() -> None:
    """Of a passage's findings of one kind the worst counts; a kind that was never found has an unknown severity."""
    found = measure([scene(*(f"CUT {n / 100}" for n in range(101)))])
    assert found.kinds["truncation"].severity == (0, 0.25, 0.5, 0.75, 1)
    assert found.kinds["encoding"].severity == UNIFORM
    tally = Tally()
    twice = [Finding("ocr", "ocr", 0.2), Finding("ocr", "ocr", 0.6), Finding("ocr", "mojibake", 0.1)]
    tally.add([twice], (), {"ocr"})
    rate = tally.profile().kinds["ocr"]
    assert (rate.rate, rate.severity, rate.operators) == (1, (0.6,) * 5, {"ocr": 0.5, "mojibake": 0.5})


def test_memory_does_not_grow_with_what_is_counted() -> None:
    """Of 20,000 passages a thousand severities are kept, an even sample, the same each time."""
    tallies = [Tally(), Tally()]
    for tally in tallies:
        for n in range(20_000):
            tally.add([[Finding("ocr", "ocr", n / 20_000)]], (), {"ocr"})
    (sample,) = tallies[0]._severities.values()
    assert len(sample._kept) == RESERVOIR
    first, second = (tally.profile() for tally in tallies)
    assert first == second
    for quantile, share in zip(first.kinds["ocr"].severity, (0, 0.25, 0.5, 0.75, 1), strict=True):
        assert abs(quantile - share) < 0.05


def test_kinds_that_go_together_are_told() -> None:
    """Two kinds that always come together correlate with 1, one that keeps away below 0.

    Nothing is said of kinds that were hardly seen.
    """
    tally, draw = Tally(), Random("together")
    for n in range(400):
        found = [Finding("ocr", "ocr", 1), Finding("layout", "whitespace", 1)] if n % 4 == 0 else []
        found += [Finding("html", "html_residue", 1)] if n % 4 == 1 else []
        found += [Finding("encoding", "mojibake", 1)] if draw.random() < 0.5 else []
        found += [Finding("metadata", "metadata_title", 1)] if n < 9 else []
        tally.add([found], (), set(KINDS))
    together = tally.profile().together
    assert together["layout|ocr"] == 1
    assert together["html|ocr"] == together["html|layout"] == pytest.approx(-1 / 3, abs=1e-4)
    assert not any("metadata" in pair for pair in together)
    assert set(together) <= {
        "layout|ocr",
        "html|ocr",
        "html|layout",
        "encoding|html",
        "encoding|layout",
        "encoding|ocr",
    }


@given(st.floats(0, 1), st.floats(0.6, 1), st.floats(0.6, 1))
def test_the_correction_undoes_the_errors(true: float, sensitivity: float, specificity: float) -> None:
    """What a detector with these errors would find of a true share is led back to it."""
    errors = Rates(sensitivity, specificity)
    seen = true * sensitivity + (1 - true) * (1 - specificity)
    assert corrected(seen, errors) == pytest.approx(true, abs=1e-9)


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.65, 1), st.floats(0.65, 1))
def test_rate_and_interval_stay_in_order(count: int, more: int, sensitivity: float, specificity: float) -> None:
    """Ends and rate rise, all within 0 to 1, whatever was found; and the upper end is never 0."""
    tally = Tally()
    found = [[Finding("ocr", "ocr", 0.5)]] * count + [[]] * more
    tally.add(found, (), {"ocr"})
    rate = tally.profile({"ocr": Rates(sensitivity, specificity)}).kinds["ocr"]
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1
    assert rate.high > 0


def test_the_interval_of_a_share() -> None:
    """Wilson's: of 162 in 165 it is 94.8 to 99.4 %; of nothing it says nothing."""
    assert wilson(162, 165) == pytest.approx((0.948, 0.994), abs=5e-4)
    assert wilson(0, 0) == (0, 1)


# -- distance ----------------------------------------------------------------------------------------------------------


def test_what_was_made_is_compared_kind_by_kind() -> None:
    """Differences with their intervals, the worst kind, and how much of the noise is of another kind than wanted."""
    target = Profile({"ocr": KindRate(0.1, 0, 1, weight=2), "html": KindRate(0.2, 0, 1)})
    made = Profile({"ocr": KindRate(0.3, 0.25, 0.35), "html": KindRate(0.1, 0.05, 0.25)})
    found = distance(target, made)
    gaps = {each.kind: each for each in found.gaps}
    assert gaps["ocr"].difference == pytest.approx(0.1)
    assert gaps["ocr"].interval == pytest.approx((0.05, 0.15))
    assert (gaps["ocr"].met, gaps["html"].met) == (False, True)
    assert found.worst is not None
    assert found.worst.kind in ("ocr", "html")
    assert found.total_variation == pytest.approx(0.25)  # half and half was wanted, three to one was made
    assert found.mean == pytest.approx(0.1)
    row = json.loads(json.dumps(found.to_json()))
    assert row["kinds"]["html"]["met"] is True
    assert row["total_variation"] == pytest.approx(0.25)


@pytest.mark.usefixtures("detectors")
def test_what_cannot_be_compared_is_named() -> None:
    """A kind that only one of the two has, and one whose detector has changed since."""
    rate = KindRate(0.1, 0, 1)
    target = Profile({"ocr": rate, "truncation": rate}, detectors={"cut": 2, "rot": 1, "copies": 1, "gold": 1})
    made = Profile({"html": rate, "truncation": rate}, detectors=findings.versions())
    found = distance(target, made)
    assert found.gaps == ()
    assert found.left_out == {
        "truncation": "its detectors have changed: cut 2 and 3",
        "html": "not in the target",
        "ocr": "cannot be measured in what was made",
    }
    assert (found.total_variation, found.worst, found.mean) == (None, None, None)


@pytest.mark.usefixtures("detectors")
def test_a_profile_is_no_distance_from_itself() -> None:
    """Measured twice, the same."""
    found = measure([scene("CUT 0.3", "ROT", "GOLD"), scene("CUT 0.1", "CUT 0.1")])
    assert distance(found, found).mean == 0
    assert distance(found, found).total_variation == 0


# -- default -----------------------------------------------------------------------------------------------------------


def test_every_default_rate_says_where_it_comes_from() -> None:
    """Measured with the place, or assumed; within its interval; and the profile survives its JSON."""
    profile = default_profile()
    for each in profile.kinds.values():
        assert each.low <= each.rate <= each.high
        assert each.source.startswith(("measured: ", "assumed"))
        assert each.seen is None
        assert sum(each.operators.values()) == pytest.approx(1) or not each.operators
    assert (profile.passages, profile.questions, profile.top_k) == (0, 0, {})
    assert profile.kinds["gold_removed"].rate == 0.2
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


# -- nodes and passages ------------------------------------------------------------------------------------------------


def test_a_passage_is_what_a_model_sees() -> None:
    """Hidden metadata and ours stay out, values are plain JSON, the source is the document."""
    (node,) = (
        NodeWithScore(node=each, score=0.5)
        for each in VectorStoreIndex.from_documents(
            [Document(text="text", doc_id="d", metadata={"on": date(2026, 1, 2), "size": 3, "hybridmem": {"x": 1}})],
            embed_model=MockEmbedding(embed_dim=2),
        ).docstore.docs.values()
    )
    node.node.excluded_llm_metadata_keys = ["size"]
    passage = to_passage(node)
    assert (passage.text, passage.metadata, passage.source, passage.score) == ("text", {"on": "2026-01-02"}, "d", 0.5)


def test_back_to_a_node_nothing_is_mutated() -> None:
    """Text and visible metadata are the passage's, hidden ones stay, untouched values keep their type."""
    node = TextNode(text="text", metadata={"on": date(2026, 1, 2), "title": "T", "own": {"a": [1]}})
    node.excluded_llm_metadata_keys = ["own"]
    node.embedding = [1.0]
    original = NodeWithScore(node=node, score=0.5)
    before = copy.deepcopy(original)
    passage = to_passage(original)
    changed = to_node(dataclasses.replace(passage, text="cut", metadata={"on": "2026-01-02", "page": 3}), original)
    assert changed.node.get_content() == "cut"
    assert changed.node.metadata == {"on": date(2026, 1, 2), "own": {"a": [1]}, "page": 3}
    changed.node.metadata["own"]["a"].append(2)
    changed.node.embedding.append(2.0)  # type: ignore[union-attr]
    changed.node.excluded_llm_metadata_keys.append("x")
    assert original == before
    assert to_node(passage, original).node.metadata == node.metadata


def test_a_document_is_copied_with_its_text() -> None:
    """Its text lies in an object of its own, which the copy does not share."""
    document = NodeWithScore(node=Document(text="whole", doc_id="d"))
    passage = to_passage(document)
    assert passage.source == "d"
    assert to_node(dataclasses.replace(passage, text="cut"), document).node.get_content() == "cut"
    assert document.node.get_content() == "whole"


def test_added_and_foreign_nodes() -> None:
    """A passage without an original becomes a text node with its source; an image is handed back as it is.

    A value that was hidden is seen once a passage has it.
    """
    added = to_node(Passage("n", "text", {"title": "T"}, "d", 0.1))
    assert (added.node_id, added.node.ref_doc_id, added.score) == ("n", "d", 0.1)
    image = NodeWithScore(node=ImageNode(image_path="x.png", text="caption"))
    assert to_node(to_passage(image), image) is image
    hidden = NodeWithScore(node=TextNode(text="x", metadata={"title": "T"}, excluded_llm_metadata_keys=["title"]))
    shown = to_node(dataclasses.replace(to_passage(hidden), metadata={"title": "U"}), hidden)
    assert "title: U" in shown.node.get_content(MetadataMode.LLM)


def test_a_node_that_came_twice_has_two_ids() -> None:
    """Findings are kept by id; back as a node it is itself again. A score that is no number is none."""
    node = NodeWithScore(node=TextNode(id_="n", text="x"), score=float("nan"))
    first, second = to_passages([node, node])
    assert (first.id, second.id, first.score) == ("n", "n#2", None)
    assert to_node(second, node).node_id == "n"


# -- of an index, on disk ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("detectors")
def test_an_index_is_measured_without_questions() -> None:
    """All its chunks, the copy among them wherever it is; nothing that a question is needed for."""
    texts = ["CUT 0.5 of the first", "sound", "one two three four", *(f"chunk number {n}" for n in range(50))]
    nodes = [TextNode(id_=f"n{n}", text=text) for n, text in enumerate([*texts, "one two three four"])]
    found = from_index(nodes, errors={})
    assert (found.passages, found.questions) == (54, 0)
    assert found.kinds["truncation"].rate == found.kinds["duplicate"].rate == pytest.approx(1 / 54, abs=1e-6)
    assert "gold_removed" not in found.kinds
    assert found.source.startswith("all 54 chunks of an index")
    assert from_index(reversed(nodes), errors={}) == found


@pytest.mark.usefixtures("detectors")
def test_of_a_large_index_a_sample() -> None:
    """The same chunks whatever their order; kinds that take two passages are not measured, and named."""
    nodes = [TextNode(id_=f"n{n}", text="CUT 0.5" if n % 2 else "sound") for n in range(400)]
    told: list[tuple[int, int | None]] = []
    found = from_index(iter(nodes), sample=100, errors={}, progress=lambda *step: told.append(step))
    assert found.passages == 100
    assert found.source.startswith("100 of 400 chunks of an index")
    assert not set(PAIRS) & set(found.kinds)
    assert "duplicate (not looked for)" in found.source
    assert "gold_removed (takes a question)" in found.source
    assert found.kinds["truncation"].low < 0.5 < found.kinds["truncation"].high
    assert from_index(reversed(nodes), sample=100, errors={}) == found
    assert told[-1] == (100, 100)


def test_the_real_detectors_see_what_a_splitter_does() -> None:
    """A chunk with half a code block, through an index of LlamaIndex's own."""
    texts = ["Run it:\n\n```python\nprint(1)\n", "All is said here. Nothing is missing."]
    index = VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=MockEmbedding(embed_dim=2))
    found = from_index(index, errors={})
    assert found.kinds["markdown"].rate == 0.5
    assert next(iter(found.kinds["markdown"].operators)).startswith("fence_")
    assert not set(found.kinds) & LIST_KINDS


@pytest.mark.parametrize("source", [[], 5, ["text"]], ids=["nothing", "no index", "no nodes"])
def test_what_has_no_chunks_is_refused(source: object) -> None:
    """An error that says so, not a profile of nothing."""
    with pytest.raises(ConfigurationError, match="no chunks|keeps no nodes|a node of LlamaIndex"):
        from_index(source)
    with pytest.raises(ConfigurationError, match="sample"):
        from_index([TextNode(text="x")], sample=0)


def test_nodes_of_a_docstore() -> None:
    """A docstore is walked over as well as its index."""
    index = VectorStoreIndex([TextNode(id_="n", text="x")], embed_model=MockEmbedding(embed_dim=2))
    assert [each.node_id for each in nodes_of(index)] == [each.node_id for each in nodes_of(index.docstore)] == ["n"]
    with pytest.raises(ConfigurationError, match="SimpleVectorStore keeps no nodes"):
        list(nodes_of(index.vector_store))


@pytest.mark.usefixtures("detectors")
def test_queries_are_measured_from_pairs_and_scenes() -> None:
    """A question with its nodes, or a scene; anything else is refused with its number."""
    node = NodeWithScore(node=TextNode(text="CUT 0.5"))
    found = from_traces([("What?", [node, node]), scene("GOLD")], errors={})
    assert (found.questions, found.passages) == (2, 3)
    assert found.kinds["duplicate"].rate == pytest.approx(1 / 3, abs=1e-6)
    assert found.source.startswith("2 queries of what was given")
    with pytest.raises(ConfigurationError, match="query 2: .* not dict"):
        from_traces([("What?", [node]), {"question": "What?"}])
    with pytest.raises(ConfigurationError, match="no query"):
        from_traces([])


@pytest.mark.usefixtures("detectors")
def test_a_profile_survives_the_disk(tmp_path: Path) -> None:
    """Equal and of the same hash; what is no profile is refused with its place."""
    found = measure([scene("CUT 0.3", "ROT"), scene("GOLD", "GOLD")], source="\ud800 häßlich")
    save(found, tmp_path / "new" / "noise.json")
    again = load(tmp_path / "new" / "noise.json")
    assert again == found
    assert again.hash == found.hash
    wrong = tmp_path / "wrong.json"
    for content, said in (("{", "no JSON"), ("[]", "no noise profile of schema"), ('{"schema": 1}', "lacks the field")):
        wrong.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=f"wrong.json.*{said}"):
            load(wrong)
    with pytest.raises(ConfigurationError, match="no such file"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("kinds", "ocr", "weight"), math.nan, "ocr: weight: a number, 0 or more, is expected, not nan"),
        (("kinds", "ocr", "weight"), 10**400, "ocr: weight"),
        (("kinds", "ocr", "rate"), "0.5", "ocr: rate: a number, 0 to 1, is expected, not '0.5'"),
        (("kinds", "ocr", "seen"), [], "ocr: seen"),
        (("kinds", "ocr", "severity"), [math.nan] * 5, "ocr: severity, quantile 1"),
        (("kinds", "ocr", "operators"), {"ocr": math.inf}, "ocr: share of ocr"),
        (("kinds", "ocr", "operators"), {"blots": 1}, "no noise operator 'blots'"),
        (("kinds", "ocr", "source"), None, "ocr: source: a text"),
        (("together",), {"layout|ocr": math.nan}, "together: layout|ocr: a number, -1 to 1"),
        (("together",), {"ocr": 0.5}, 'together: "kind|other" is expected'),
        (("top_k",), {"5": math.inf}, "top_k: 5: a whole number"),
        (("passages",), -1, "passages: a whole number of 0 or more"),
        (("source",), 5, "source: a text is expected, not 5"),
    ],
)
def test_a_profile_edited_by_hand_is_refused_with_its_field(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    """JSON knows NaN, infinity, texts and lists where figures belong; nothing can be drawn from those."""
    row = place = default_profile().to_json()
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape("edited.json: ") + ".*" + re.escape(said)):
        load(file)
