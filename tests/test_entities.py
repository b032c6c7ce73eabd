"""Tests of the pure work on names: declaring, matching, telling names from common words."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llama_index_hybridmem.graph.entities import (
    MAX_NAME_WORDS,
    STOPWORDS,
    Gazetteer,
    Mention,
    capitalised_names,
    declared_names,
    mentions,
    normalise,
    query_names,
    terms,
    title_names,
    word_set,
    words,
)

ODD = ["İzmir", "I", "ı", "O’Brien's", "naïve", "nai\u0308ve", "\ud800", "\0", "ΟΔΟΣ", "हिन्दी", "עִבְרִית", "word" * 50]
TEXTS = st.lists(st.sampled_from(ODD) | st.text(max_size=6), max_size=8).map(" ".join)
LETTERS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
NAMES = st.sets(LETTERS.map(" ".join), max_size=8)


def longest_match(names: Iterable[str], texts: list[str]) -> list[tuple[str, int, int]]:
    """The obvious, slow search that the gazetteer must agree with."""
    found, index = [], 0
    while index < len(texts):
        spans = [(" ".join(texts[index:after]), index, after) for after in range(len(texts), index, -1)]
        hit = next((span for span in spans if span[0] in names), None)
        if hit:
            found.append(hit)
        index = hit[2] if hit else index + 1
    return found


def in_text(text: str, *names: str, title: str = "") -> dict[str, Mention]:
    """The mentions of names in a passage that declares its title."""
    titled = title_names(title)
    return mentions(text, title, titled, Gazetteer([*names, *titled]))


# -- words ------------------------------------------------------------------------------------------------------------


@given(TEXTS)
@example("İ")
@example("a\u0300\u0301 b\u0327")
@example("J\u030c \u2126 \u212b \u0958")
def test_writing_a_name_the_graphs_way_twice_changes_nothing(text: str) -> None:
    """A normalised name is a fixed point: stored names can be looked up as they are."""
    once = normalise(text)
    assert normalise(once) == once


@given(TEXTS)
def test_the_set_of_words_holds_the_same_forms(text: str) -> None:
    """The fast form agrees with the full one on any text."""
    assert word_set(text) == set(words(text).texts)


@given(TEXTS)
def test_words_stand_where_they_say(text: str) -> None:
    """Spans go from left to right, do not overlap and are never empty."""
    tokens = words(text)
    assert len(tokens.texts) == len(tokens.spans)
    edges = [edge for span in tokens.spans for edge in span]
    assert edges == sorted(edges)
    assert all(tokens.surface(i, i + 1) for i in range(len(tokens.texts)))
    assert all(" " not in form and form for form in tokens.texts)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("O’Brien's", "obrien"),
        ("İzmir", "izmir"),
        ("nai\u0308ve", "naïve"),
        ("co\u00adop\u200berative", "cooperative"),
        ("Бори\u0301сович", "бори\u0301сович"),
        ("हिन्दी", "हिन्दी"),
        ("DDR5-6400", "ddr5 6400"),
        ("snake_case", "snake case"),
        ("...", ""),
    ],
)
def test_words_are_folded_as_people_type_them(written: str, form: str) -> None:
    """Apostrophes, possessives, soft hyphens and dotted capitals go; accents and vowel signs stay within the word."""
    assert normalise(written) == form


def test_terms_are_content_words_each_once() -> None:
    """Function and question words carry nothing; the order is the text's."""
    assert terms("Which bank is the bank of the river?") == ["bank", "river"]


# -- declaring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("It was built by Samsung Electronics in Seoul.", ["samsung electronics", "seoul"]),
        ("The University of Copenhagen and the ETH.", ["university of copenhagen", "eth"]),
        (
            "Gravity bends light. Gravity is weak, says Newton.",
            ["newton"],
        ),  # a sentence begins: the capital says nothing
        ("He met J. R. Oppenheimer on Monday in July 1945.", ["j r oppenheimer"]),
        ("an STT-MRAM cell", ["stt mram"]),
        ("Marks & Spencer AT&T", ["marks spencer at t"]),
        ("She saw Paris,\n\nRome and Oslo\nFjord.", ["paris", "oslo fjord"]),
        ("- Kioxia makes flash\n- Micron makes DRAM", ["dram"]),  # list items begin sentences
        ("She works for The Who of Leeds", ["leeds"]),
        ("New York beats New. In New Delhi too", ["new york", "new delhi"]),
        ("nothing here", []),
        ("", []),
    ],
)
def test_capitals_announce_names(text: str, names: list[str]) -> None:
    """Runs of capitalised words, connectors inside; no sentence beginnings, dates, numbers, function words at ends."""
    assert capitalised_names(text) == names


def test_a_title_stands_for_itself_and_for_its_bare_form() -> None:
    """Wikipedia's parentheses tell pages apart; texts do not write them."""
    assert title_names("Mercury (planet)") == ["mercury planet", "mercury"]
    assert title_names("The (very) Long " + "word " * MAX_NAME_WORDS) == []
    assert title_names("(") == []


def test_a_title_of_blanks_or_parentheses_takes_no_time() -> None:
    """Patterns over titles are linear: a hostile title of 100,000 signs is read at once, not in minutes."""
    for sign in " (\n'":
        assert title_names(sign * 100_000) == []
        assert capitalised_names(f"A{sign * 100_000}B") is not None


def test_a_callers_extractor_replaces_capitals_and_is_normalised() -> None:
    """`extract_entities=` may be any callable; the title still counts, doubles, empty and overlong names go."""
    found = declared_names("text", "A Title", lambda _: ["Floating Gate", "floating gate", "!", "w " * 20])
    assert found == ["a title", "floating gate"]


@given(TEXTS, TEXTS)
def test_any_text_declares_names_that_its_words_hold(text: str, title: str) -> None:
    """Nothing crashes, and each name is a run of the text's or the title's own words, and short enough."""
    running = f" {normalise(text)} | {normalise(title)} | {' '.join(title_names(title))} "
    for name in declared_names(text, title):
        assert f" {name} " in running
        assert 0 < len(name.split(" ")) <= MAX_NAME_WORDS


# -- matching ---------------------------------------------------------------------------------------------------------


@given(NAMES, NAMES, st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_gazetteer_finds_the_longest_names(kept: set[str], gone: set[str], texts: list[str]) -> None:
    """It agrees with the obvious search, also after names were added and taken away."""
    gazetteer = Gazetteer(gone | kept)
    gazetteer.discard(gone - kept)
    assert list(gazetteer.find(texts)) == longest_match(kept, texts)
    assert {name for name in gone | kept if name in gazetteer} == kept


def test_names_are_found_in_lower_case_and_counted_by_case() -> None:
    """A passage that writes "flash memory" has the name; capitals are counted, sentence beginnings are not."""
    found = in_text("Flash memory wears. Some Flash Memory lasts; flash memory is cheap.", "flash memory")
    assert found == {"flash memory": Mention("Flash memory", 3, 1)}
    assert in_text("Flash wears. Flash lasts.", "flash") == {"flash": Mention("Flash", 0, 0)}


def test_a_name_of_function_words_needs_its_own_capitals() -> None:
    """A page titled "It" does not count every "it" as a name: it would tie the whole corpus together."""
    assert in_text("Then it rained, and it poured.", "it")["it"] == Mention("it", 2, 0)
    assert in_text("They watched It, by King.", "it")["it"].upper == 1


def test_a_title_is_linked_even_where_a_longer_name_hides_it() -> None:
    """The longest match wins in running text, but the page about New York has "new york"."""
    found = in_text("New York City lies there.", "new york city", title="New York")
    assert found["new york"] == Mention("New York", 0, 0, titled=True)
    assert "new york city" in found
    assert not in_text("New York City lies there.", "new york city", "new york").get("new york")


def test_titles_do_not_count_as_evidence_of_case() -> None:
    """Titles are capitalised by convention: "City" is a common word if running text writes it small."""
    assert in_text("A city is big.", title="City")["city"] == Mention("City", 1, 0, titled=True)


def test_names_in_a_title_too_long_to_be_one_are_mentions() -> None:
    """A headline is no name, but mentions some."""
    headline = "How the engineers of Toshiba came to think of flash in their spare time"
    assert in_text("It is long.", "toshiba", title=headline) == {"toshiba": Mention("Toshiba", 0, 0)}


@given(TEXTS, TEXTS, NAMES)
def test_mentions_never_count_more_capitals_than_mentions(text: str, title: str, names: set[str]) -> None:
    """Both counts add up over passages only if each is sound in each."""
    for mention in in_text(text, *names, title=title).values():
        assert 0 <= mention.upper <= mention.total
        assert mention.surface


# -- questions --------------------------------------------------------------------------------------------------------


def ask(question: str, *names: str) -> list[str]:
    """The names a question holds, of those that are known."""
    return query_names(question, lambda candidates: {name: 1 for name in candidates if name in names})


def test_questions_are_read_without_their_capitals() -> None:
    """People type in lower case."""
    names = ("samsung electronics", "samsung", "hbm3")
    assert ask("who supplies samsung electronics' HBM3?", *names) == ["samsung electronics", "hbm3"]
    assert ask("WHO SUPPLIES SAMSUNG?", *names) == ["samsung"]


def test_a_function_word_is_no_name_of_a_question() -> None:
    """Were "it" a page's title, every second question would ask for that page."""
    assert ask("is it fast", "it", "fast") == ["fast"]


@given(NAMES, st.lists(st.sampled_from("abcd"), max_size=12))
def test_questions_and_passages_are_matched_alike(names: set[str], texts: list[str]) -> None:
    """A question finds the names that a passage with the same words has."""
    found = {name for name, _, _ in longest_match(names, texts)} - STOPWORDS
    assert set(ask(" ".join(texts), *names)) == found
