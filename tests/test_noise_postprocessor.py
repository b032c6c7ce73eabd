"""The noise postprocessor behind a real retriever: copies, provenance, hidden metadata, both modes, many at once."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from recorder import recorded

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.events import NoiseInjectedEvent
from llama_index_hybridmem.noise.injection import Injected
from llama_index_hybridmem.noise.passages import NOISE_KEY
from llama_index_hybridmem.noise.postprocessor import Gold, NoiseInjectionPostprocessor
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Scene

QUESTION = "In which year was Aldgate Cells founded?"
TEXTS = {
    "founding": "Aldgate Cells was founded in 1987 in Norwich by Mira Voss. The company makes ferroelectric memory.",
    "product": "The AC-40 chip keeps its content for 15 years at 85 degrees. It writes in 120 ns, says the maker.",
    "market": "Meters and rail cards are the main buyers. Sales grew by 12% a year until 2019, then they fell.",
}
CUT = {"truncate_tail": 1.0}


def nodes() -> list[NodeWithScore]:
    """What a retriever found."""
    return [
        NodeWithScore(node=TextNode(id_=name, text=text, metadata={"title": "Aldgate Cells"}), score=0.9 - 0.1 * n)
        for n, (name, text) in enumerate(TEXTS.items())
    ]


def gold(question: str) -> Gold:
    """Every question is about the founding."""
    return Gold(frozenset({"founding"}), "1987")


def test_the_callers_nodes_stay_as_they_were() -> None:
    """A retriever may hand out the store's own objects: what is damaged is a copy."""
    given = nodes()
    before = copy.deepcopy(given)
    damaged = NoiseInjectionPostprocessor(rates=CUT).postprocess_nodes(given, query_str=QUESTION)
    assert given == before
    assert [each.text for each in damaged] != [each.text for each in before]


def test_a_damaged_node_says_what_was_done_and_no_model_sees_it() -> None:
    """Operator, severity, spans, seed and the original's hash, hidden from language and embedding models."""
    damaged = NoiseInjectionPostprocessor(rates=CUT, severity=0.5).postprocess_nodes(nodes(), query_str=QUESTION)
    for each in damaged:
        (done,) = each.node.metadata[NOISE_KEY]["damage"]
        assert done["operator"] == "truncate_tail"
        assert done["severity"] == 0.5
        assert done["seed"].startswith("0:In which year")
        assert len(done["original"]) == 16
        assert all(0 <= start <= end <= len(each.text) for start, end in done["spans"])
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert NOISE_KEY not in each.node.get_content(metadata_mode=mode)


def test_an_answer_that_was_cut_off_is_relabelled_in_export_mode() -> None:
    """Each node says whether its question can still be answered, and by which words."""
    cut = NoiseInjectionPostprocessor(rates={"truncate_head": 1.0}, severity=1.0, mode="export", gold=gold)
    notes = [each.node.metadata[NOISE_KEY] for each in cut.postprocess_nodes(nodes(), query_str=QUESTION)]
    assert {note["answerable"] for note in notes} == {False}
    kept = cut.model_copy(update={"want": "answerable"})
    found = kept.postprocess_nodes(nodes(), query_str=QUESTION)
    assert {each.node.metadata[NOISE_KEY]["answerable"] for each in found} == {True}
    assert found[0].node.metadata[NOISE_KEY]["support"] == [["founding", "1987"]]
    assert "1987" in found[0].text


def test_export_without_gold_is_refused() -> None:
    """Labels that nobody checked would lie."""
    with pytest.raises(ConfigurationError, match="needs gold"):
        NoiseInjectionPostprocessor(rates=CUT, mode="export")
    unknown = NoiseInjectionPostprocessor(rates=CUT, mode="export", gold={"Who?": Gold(frozenset({"a"}), "b")})
    with pytest.raises(ConfigurationError, match="nothing is known about the answer to 'In which year"):
        unknown.postprocess_nodes(nodes(), query_str=QUESTION)


def test_a_profile_or_rates_and_not_both() -> None:
    """What to do must be said once."""
    profile = Profile({"ocr": KindRate(1.0, 1.0, 1.0)})
    assert (
        NoiseInjectionPostprocessor(profile).postprocess_nodes(nodes(), query_str=QUESTION)[0].text != TEXTS["founding"]
    )
    for wrong in ({}, {"profile": profile, "rates": CUT}):
        with pytest.raises(ConfigurationError, match="a profile .* or rates; (neither was|both were) given"):
            NoiseInjectionPostprocessor(**wrong)
    with pytest.raises(ConfigurationError, match="severity goes with rates"):
        NoiseInjectionPostprocessor(profile, severity=0.5)
    with pytest.raises(ConfigurationError, match="strength goes with a profile"):
        NoiseInjectionPostprocessor(rates=CUT, strength=2.0)
    same = NoiseInjectionPostprocessor.from_dict(NoiseInjectionPostprocessor(rates=CUT).to_dict())
    assert same.rates == CUT


def test_the_same_query_is_damaged_alike_everywhere() -> None:
    """In threads, on an event loop and one after the other: no random state is shared."""
    noisy = NoiseInjectionPostprocessor(rates={"ocr": 0.7, "truncation": 0.7, "order": 0.5}, seed=3)
    questions = [f"{QUESTION} ({n})" for n in range(24)]

    def texts(question: str) -> list[str]:
        return [each.text for each in noisy.postprocess_nodes(nodes(), query_str=question)]

    alone = [texts(question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(texts, questions)) == alone

    async def gathered() -> list[list[str]]:
        found = await asyncio.gather(
            *(noisy.apostprocess_nodes(nodes(), query_bundle=QueryBundle(question)) for question in questions)
        )
        return [[each.text for each in one] for one in found]

    assert asyncio.run(gathered()) == alone
    assert len({str(each) for each in alone}) > 12
    assert [texts(q) for q in questions] != [
        [each.text for each in noisy.model_copy(update={"seed": 4}).postprocess_nodes(nodes(), query_str=q)]
        for q in questions
    ]


def test_it_tells_the_instrumentation_and_the_caller() -> None:
    """An event for observers, and the scene before and after for whoever asked for it."""
    seen: list[tuple[Scene, Injected]] = []
    noisy = NoiseInjectionPostprocessor(
        rates=CUT, mode="export", gold=gold, want="answerable", on_injected=lambda *pair: seen.append(pair)
    )
    with recorded() as events:
        noisy.postprocess_nodes(nodes(), query_str=QUESTION)
    (event,) = events.of(NoiseInjectedEvent)
    assert event.mode == "export"
    assert event.kinds == ["truncation"]
    assert event.answerable is True
    ((before, after),) = seen
    assert [each.text for each in before.passages] == list(TEXTS.values())
    assert after.answerable


def test_added_passages_are_nodes_like_any_other() -> None:
    """A distractor from the pool and a copy of a node can be cited, scored and rendered."""
    pool = [TextNode(id_=f"far-{n}", text=f"Bridge {n} carries goods trains over the river.") for n in range(8)]
    noisy = NoiseInjectionPostprocessor(rates={"irrelevant_passage": 0.6, "duplicate": 0.6}, pool=pool)
    found = [each for n in range(20) for each in noisy.postprocess_nodes(nodes(), query_str=f"{QUESTION} {n}")]
    added = [each for each in found if each.node_id not in TEXTS]
    assert {each.node.metadata[NOISE_KEY]["damage"][0]["operator"] for each in added} == {
        "duplicate",
        "near_duplicate",
        "irrelevant_passage",
    }
    assert all(each.node.get_content(metadata_mode=MetadataMode.LLM) for each in added)


def test_what_is_no_text_passes_through() -> None:
    """An image node comes back as the same object."""
    image = NodeWithScore(node=ImageNode(id_="picture", image="aGk="))
    found = NoiseInjectionPostprocessor(rates=CUT).postprocess_nodes([image, *nodes()], query_str=QUESTION)
    assert any(each is image for each in found)


def test_it_works_in_a_query_engine_and_without_a_query() -> None:
    """As one of node_postprocessors, as LlamaIndex users have it."""

    class Found(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return nodes()

    noisy = NoiseInjectionPostprocessor(rates=CUT, severity=0.8)
    engine = RetrieverQueryEngine.from_args(Found(), llm=ScriptedLLM(reply="1987"), node_postprocessors=[noisy])
    response = engine.query(QUESTION)
    assert all(NOISE_KEY in each.node.metadata for each in response.source_nodes)
    assert noisy.postprocess_nodes(nodes())[0].text != TEXTS["founding"]
    assert noisy.postprocess_nodes([]) == []


def test_images_keep_their_places() -> None:
    """Order is what a reranker has paid for: nothing is done, and nothing is moved."""
    image = NodeWithScore(node=ImageNode(id_="image", text="A chip.", image="aGk="), score=0.95)
    given = [image, *nodes()]
    found = NoiseInjectionPostprocessor(rates={"ocr": 0.0}).postprocess_nodes(given, query_str=QUESTION)
    assert [each.node.node_id for each in found] == ["image", *TEXTS]


def test_it_is_pickled_whole_and_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """For other processes: the same damage comes out of it there."""
    made = NoiseInjectionPostprocessor(rates={"truncation": 1.0, "ocr": 0.5}, gold={QUESTION: gold(QUESTION)})
    with caplog.at_level(logging.WARNING):
        again = pickle.loads(pickle.dumps(made))
    assert not caplog.records
    one, two = (each.postprocess_nodes(nodes(), query_str=QUESTION) for each in (made, again))
    assert [each.text for each in one] == [each.text for each in two] != list(TEXTS.values())


@pytest.mark.parametrize("said", ["In which \ud800 year?", "\udfff"])
def test_half_a_character_in_a_question_is_no_end(said: str) -> None:
    """Users paste anything; the damage is as repeatable as ever."""
    made = NoiseInjectionPostprocessor(rates=CUT)
    one, two = (made.postprocess_nodes(nodes(), query_str=said) for _ in range(2))
    assert [each.text for each in one] == [each.text for each in two]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (lambda question: ["founding"], r"gold of 'In which year.*a Gold or None is expected, not \['founding'\]"),
        (lambda question: Gold("founding"), "Gold, nodes: a collection of texts is expected, not 'founding'"),  # type: ignore[arg-type]
        (lambda question: Gold(frozenset(), 1987), "Gold, answer: a text or None is expected, not 1987"),  # type: ignore[arg-type]
        (5, "gold is a mapping or a function of a question to Gold, not 5"),
    ],
)
def test_gold_of_another_form_is_refused(known: Any, said: str) -> None:
    """An id read letter by letter would make labels that lie."""
    with pytest.raises(ConfigurationError, match=said):
        NoiseInjectionPostprocessor(rates=CUT, gold=known).postprocess_nodes(nodes(), query_str=QUESTION)


def test_what_a_translator_gives_is_a_text() -> None:
    """None, as a model that refuses may give, is told; half a character is mended."""
    rates = {"wrong_language": 1.0}
    with pytest.raises(ConfigurationError, match="translate of a NoiseInjectionPostprocessor gives a text, not None"):
        NoiseInjectionPostprocessor(rates=rates, severity=1.0, translate=lambda *_: None).postprocess_nodes(
            nodes(), query_str=QUESTION
        )
    made = NoiseInjectionPostprocessor(rates=rates, severity=1.0, translate=lambda *_: "Bon\ud800jour.")
    texts = [each.text for each in made.postprocess_nodes(nodes(), query_str=QUESTION)]
    assert any("Bon?jour." in text for text in texts)
