"""Whether the context can answer, by plain rules that prefer answering."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.routing.arbiter import EvidenceRules, judge, names

PASSAGES = [
    "DRAM\nDRAM keeps each bit as charge in a capacitor and must be refreshed every 64 ms.",
    "Optane\nOptane was a phase-change memory made by Intel and Micron, discontinued in 2022.",
]


def test_nothing_retrieved_is_no_evidence() -> None:
    """Without any text there is nothing to answer from, however close the cosine claims to be."""
    assert not judge("What is DRAM?", [], cosine=0.9).sufficient
    assert judge("What is DRAM?", ["", "  "]).reason == "nothing was retrieved"


def test_what_the_sources_never_mention_is_refused() -> None:
    """A distant context without the question's names is refused, and the reason names them as the user wrote them."""
    evidence = judge("Who directed the film Casablanca?", PASSAGES, cosine=0.1)
    assert not evidence.sufficient
    assert "Casablanca" in evidence.reason
    assert evidence.missing[0] == "Casablanca"
    assert evidence.coverage == 0


def test_doubt_means_answering() -> None:
    """One sign alone does not refuse: neither missing words beside a close passage, nor distance where words are."""
    assert judge("Who directed the film Casablanca?", PASSAGES, cosine=0.8).sufficient
    assert judge("How often must DRAM be refreshed?", PASSAGES, cosine=0.05).sufficient
    assert judge("What is this about?", PASSAGES, cosine=0.05).sufficient


def test_without_a_cosine_only_a_nearly_uncovered_question_is_refused() -> None:
    """Where no cosine is known, half the words are enough to try."""
    assert not judge("Who directed Casablanca?", PASSAGES).sufficient
    assert judge("Who discontinued the Casablanca memory of Intel?", PASSAGES).sufficient


def test_rare_words_weigh_more_than_common_ones() -> None:
    """With frequencies, the one word the corpus does not know outweighs several that every passage has."""
    asked: list[str] = []

    def frequencies(terms: Iterable[str]) -> dict[str, int]:
        asked.extend(terms)
        return {"memory": 900, "made": 900, "bit": 900}

    question = "Which memory made zorblax bit?"
    counted = judge(question, PASSAGES, cosine=0.2, frequencies=frequencies, corpus_size=1000)
    assert not counted.sufficient
    assert counted.missing == ("zorblax",)
    assert judge(question, PASSAGES, cosine=0.2).sufficient
    assert "zorblax" in asked


def test_a_code_that_no_passage_has_is_refused_however_close_its_siblings_are() -> None:
    """Asked for DDR6, passages on DDR5 are close and wrong; a code that others have, or another word, is no reason."""
    passages = ["DDR5\nDDR5 modules run at data rates of 4800 to 8400 MT/s."]
    question = "Which data rates does the DDR6 standard define?"
    counts = {"data": 30, "rates": 9, "standard": 20, "define": 2}
    assert not judge(question, passages, cosine=0.7, frequencies=lambda _: counts, corpus_size=60).sufficient
    known = {**counts, "ddr6": 1}
    assert judge(question, passages, cosine=0.7, frequencies=lambda _: known, corpus_size=60).sufficient
    assert judge("Which data rates does Zorblax define?", passages, cosine=0.7).sufficient


def test_hardly_any_word_in_fairly_close_passages_is_refused() -> None:
    """In a corpus of one field all is fairly close: there a question with next to none of its words is refused."""
    question = "What was the revenue of Casablanca Pictures?"
    assert not judge(question, PASSAGES, cosine=0.55).sufficient
    assert judge(question, PASSAGES, cosine=0.65).sufficient


def test_word_forms_and_scripts_without_blanks_match() -> None:
    """Plurals and endings match their stems; Japanese questions match by pairs of signs."""
    assert judge("capacitors refreshing", PASSAGES, cosine=0.0).coverage == 1
    assert judge("量子計算機とは", ["量子計算機は量子力学を使う計算機である。"], cosine=0.0).sufficient


def test_limits_can_be_set() -> None:
    """Stricter or looser limits move the line."""
    question = "Who directed the film Casablanca?"
    assert judge(question, PASSAGES, cosine=0.1, rules=EvidenceRules(coverage=0, coverage_alone=0)).sufficient
    assert not judge(question, PASSAGES, cosine=0.8, rules=EvidenceRules(close=0.9)).sufficient


def test_names_are_capitals_inside_quotes_acronyms_and_digits() -> None:
    """The first word's capital says nothing; all that follows does."""
    assert names('Compare Optane with HBM3e and "phase change", says Bob.') == {
        "optane",
        "hbm3e",
        "phase",
        "change",
        "bob",
    }


def test_evidence_is_json() -> None:
    """The evidence can go into response metadata."""
    evidence = judge("Who directed Casablanca?", PASSAGES, cosine=0.1)
    assert json.loads(json.dumps(evidence.to_json()))["missing"] == ["Casablanca", "directed"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=3), st.none() | st.floats(-1, 1))
def test_more_text_never_counts_against_answering(question: str, texts: list[str], cosine: float | None) -> None:
    """Coverage lies between 0 and 1 and does not fall when texts are added; a question covers itself."""
    before = judge(question, texts, cosine=cosine)
    after = judge(question, [*texts, question], cosine=cosine)
    assert 0 <= before.coverage <= after.coverage <= 1 + 1e-9
    assert after.sufficient or not question.strip()
