"""Best sentences and citation checks."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.answers import best_sentences, number_sources, verify_citations
from llama_index_hybridmem.terms import sentences, stem, words

SOURCES = [
    "DRAM keeps each bit as charge in a capacitor. It must be refreshed every 64 ms. Vendors include Samsung.",
    "STT-MRAM needs no refresh. It keeps its content for 10 years without power.",
]


def test_the_sentence_that_answers_comes_first() -> None:
    """The sentence with the question's rarest words wins, verbatim and with its source's number."""
    best = best_sentences("How often must it be refreshed?", SOURCES, 1)[0]
    assert (best.text, best.source) == ("It must be refreshed every 64 ms.", 1)


def test_picks_complement_each_other() -> None:
    """A second sentence on the other half of the question beats a repetition of the first."""
    texts = ["Optane was fast. Optane was fast indeed. The price of it was high."]
    picked = [sentence.text for sentence in best_sentences("Was Optane fast, and what price?", texts, 2)]
    assert picked == ["Optane was fast.", "The price of it was high."]


def test_a_question_about_a_quantity_prefers_figures() -> None:
    """Between two sentences on the same words, "how long" takes the one with a number."""
    texts = ["Content is kept for a long time. Content is kept for 10 years."]
    assert best_sentences("How long is content kept?", texts, 1)[0].text == "Content is kept for 10 years."


def test_nothing_in_common_gives_nothing() -> None:
    """Unrelated passages give no sentence rather than a random one."""
    assert best_sentences("Who directed Casablanca?", SOURCES) == []
    assert best_sentences("", SOURCES) == []
    assert best_sentences("DRAM?", []) == []


def test_sources_are_numbered_from_one() -> None:
    """The first source is [1]."""
    assert number_sources(["a", "b"]) == ["[1] a", "[2] b"]


def test_a_true_citation_holds() -> None:
    """A sentence whose words and figures stand in its source is supported, mark before or after the full stop."""
    for answer in ("DRAM must be refreshed every 64 ms [1].", "DRAM must be refreshed every 64 ms. [1]"):
        report = verify_citations(answer, SOURCES)
        assert [(c.number, c.exists, c.supported) for c in report.citations] == [(1, True, True)]
        assert report.valid
        assert report.citations[0].sentence == "DRAM must be refreshed every 64 ms."


def test_a_citation_of_the_wrong_source_is_found() -> None:
    """Citing source 2 for what source 1 says does not hold."""
    report = verify_citations("Samsung sells charge in a capacitor [2].", SOURCES)
    assert report.citations[0].supported is False
    assert not report.valid


def test_a_wrong_number_is_found() -> None:
    """Every word may stand in the source: a figure that does not is enough to fail."""
    assert verify_citations("DRAM must be refreshed every 32 ms [1].", SOURCES).citations[0].supported is False


def test_a_source_that_does_not_exist_is_found() -> None:
    """[3] of two sources, and [0], are reported as not existing."""
    report = verify_citations("DRAM keeps charge [3]. It is refreshed [0].", SOURCES)
    assert [(c.number, c.exists, c.supported) for c in report.citations] == [(3, False, False), (0, False, False)]


def test_several_sources_share_a_sentence() -> None:
    """[1][2], [1, 2] and [1-2] each cite both; together they must back it."""
    claim = "DRAM must be refreshed while STT-MRAM needs no refresh"
    for marks in ("[1][2]", "[1, 2]", "[1-2]"):
        report = verify_citations(f"{claim} {marks}.", SOURCES)
        assert [c.number for c in report.citations] == [1, 2]
        assert report.valid


def test_uncited_sentences_are_listed_and_empty_claims_left_open() -> None:
    """A sentence without a mark is listed; "Yes [1]." has nothing to check."""
    report = verify_citations("Yes [1]. DRAM is a memory.", SOURCES)
    assert report.citations[0].supported is None
    assert report.uncited == ("DRAM is a memory.",)
    assert json.loads(json.dumps(report.to_json()))["valid"] is True


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab [],-.123\n", max_size=120), st.lists(st.text(max_size=20), max_size=3))
def test_any_answer_is_reported_on(answer: str, sources: list[str]) -> None:
    """No answer makes the check fail; every report is JSON and shares lie between 0 and 1."""
    report = verify_citations(answer, sources)
    json.dumps(report.to_json())
    assert all(0 <= citation.share <= 1 for citation in report.citations)


def test_a_huge_range_is_not_expanded() -> None:
    """[1-999999999] names its two ends only."""
    assert [c.number for c in verify_citations("DRAM [1-999999999].", SOURCES).citations] == [1, 999999999]


def test_sentences_and_words_fold_as_described() -> None:
    """Abbreviations do not end sentences; possessives and number commas go; both sides of a comparison fold alike."""
    assert sentences("Dr. Smith works at Intel Inc. in Oregon. He left.\n- one item\n- two") == [
        "Dr. Smith works at Intel Inc. in Oregon.",
        "He left.",
        "- one item",
        "- two",
    ]
    assert words("Sony’s 3,000 HBM3-chips at 1.2V") == ["sony", "3000", "hbm3", "chips", "at", "1.2v"]
    assert stem("memories") == stem("memory")
    assert stem("refreshed") == stem("refreshes") == stem("refresh")
