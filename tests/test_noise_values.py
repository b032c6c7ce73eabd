"""Tests of typed values: found with true spans, and changed into others of the same form."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.noise.others import another, apart, older
from llama_index_hybridmem.noise.values import Value, figures, moment, names, spots, stands, values

ODD = [
    "\ud800",
    "a\u0301",
    "\u200b",
    "שלום 12",
    "東京2020年",
    "\r\n",
    "1,024",
    "7.8 µs",
    "12 March 2019",
    "v2.0.0",
    "İ",
    "0",
    "5%",
]
TEXTS = st.lists(st.sampled_from(ODD) | st.text(max_size=8), max_size=8).map(" ".join)
FORMS = {
    "2024-02-29": "date",
    "March 12, 2019": "date",
    "3rd of May 1999": "date",
    "Sept. 5": "date",
    "04/05/2021": "date",
    "1987": "year",
    "1990s": "year",
    "10:30 pm": "time",
    "£354,793": "money",
    "$5 million": "money",
    "20 dollars": "money",
    "15%": "percent",
    "12 percent": "percent",
    "v2.4.1": "version",
    "10.0.3": "version",
    "7.8 µs": "quantity",
    "819 GB/s": "quantity",
    "30 days": "quantity",
    "1,024": "number",
    "0.05": "number",
    "3rd": "number",
    "Monday": "word",
    "New York": "name",
}


@pytest.mark.parametrize(("text", "type_"), FORMS.items(), ids=lambda each: each)
def test_a_value_is_found_whole_and_typed(text: str, type_: str) -> None:
    """Units, separators, currencies and months belong to the value."""
    assert [(each.text, each.type) for each in values(f"It was {text} then")] == [(text, type_)]


@pytest.mark.parametrize("text", ["ISBN-13: 978-3-16-148410-0", "H2O", "Llama-3.1-8B", "a_1", "/api/v2/x"])
def test_a_part_of_something_longer_is_no_figure(text: str) -> None:
    """Numbers of identifiers are not changed: the rest of them would not fit any more."""
    assert [each.text for each in figures(text)] == []


@given(TEXTS)
def test_spans_are_true_and_in_order(text: str) -> None:
    """A value's text stands where it says, and values do not overlap."""
    found = values(text)
    assert all(text[each.start : each.end] == each.text for each in found)
    assert all(one.end <= other.start for one, other in zip(found, found[1:], strict=False))


@given(TEXTS, st.integers())
def test_another_value_is_another_and_can_be_encoded(text: str, seed: int) -> None:
    """Neither stands in the other, the same seed gives the same, and no lone surrogate is added."""
    for value in figures(text):
        new = another(value, Random(seed))
        assert new == another(value, Random(seed))
        assert new is None or (apart(new, value.text) and new.encode())


@pytest.mark.parametrize("text", [text for text, type_ in FORMS.items() if type_ not in ("name", "word")])
def test_another_value_is_of_the_same_form(text: str) -> None:
    """What comes out is found again as one value of the same type; dates stay possible ones."""
    value = values(text)[0]
    for seed in range(30):
        new = another(value, Random(seed))
        assert new is not None
        assert [(each.type, each.text) for each in values(new)] == [(value.type, new)]


@given(st.integers(1, 10**9), st.integers())
def test_a_number_stays_plausible(number: int, seed: int) -> None:
    """It keeps its separators and round zeros, and lies between half and about twice the old one."""
    text = f"{number:,}"
    new = another(Value(0, len(text), text, "number"), Random(seed))
    assert new is not None
    plain = int(new.replace(",", ""))
    assert new == f"{plain:,}"
    assert number / 2 - 1 <= plain <= 2 * number + 3 * 10 ** (len(str(number)) - len(str(number).rstrip("0")))


def test_a_percentage_stays_one() -> None:
    """A share of at most all is not made into more than all."""
    made = {another(values("98.5%")[0], Random(seed)) for seed in range(50)}
    assert all(each is not None and float(each.rstrip("%")) <= 100 for each in made)
    assert len(made) > 5


def test_ordinals_and_units_agree_with_their_number() -> None:
    """11th, not 11st; 2 days, not 2 day."""
    ordinals = {another(values("the 8th floor")[0], Random(seed)) for seed in range(50)}
    assert "11th" in ordinals
    assert "13th" in ordinals
    assert {another(values("for 1 day")[0], Random(seed)) for seed in range(20)} == {"2 days", "3 days"}


def test_names_come_from_the_pool_by_shape_and_preposition() -> None:
    """A name of two words becomes another of two words, one that follows "in" a place if there is such a one."""
    pool = names("She met John Adams in Los Angeles, near Oslo.")
    value = names("He lived in New York then.")[0]
    assert {another(value, Random(seed), pool) for seed in range(20)} == {"Los Angeles"}
    assert another(value, Random(1), pool, avoid=["born in Los Angeles"]) is None


def test_a_name_is_put_together_from_the_pools_words() -> None:
    """Where no name of the pool has its shape, words are drawn from it; without any there is none."""
    value = names("in the Bank of England")[0]
    new = another(value, Random(1), names("He saw Oslo and Bergen there"))
    assert new in ("Oslo of Bergen", "Bergen of Oslo")
    assert another(value, Random(1)) is None


def test_a_name_is_more_than_a_capital() -> None:
    """Function words, months, weekdays and lone first words are left out, possessive endings, too."""
    text = "The Beatles' drummer left. In May he met Ann's friend NASA. Rain fell on Monday."
    assert [each.text for each in names(text)] == ["Beatles", "Ann", "NASA"]


def test_older_puts_back_what_can_be_compared() -> None:
    """Dates, years and versions go back; a leap day stays possible; what has no year stays as it is."""
    for text in ("as of 2021", "2024-02-29T10:00:00Z", "March 12, 2019", "v2.0.0", "1.4.0"):
        old = older(text, Random(3))
        assert old is not None
        before, now = moment(old), moment(text)
        assert before is not None
        assert now is not None
        assert before < now
    assert "-02-28" in str(older("2024-02-29", Random(3)))
    assert older("March 12", Random(3)) is None
    assert older("yesterday", Random(3)) is None


def test_words_stand_whole_whatever_their_case() -> None:
    """A name inside of a longer word does not count; separators in figures do not either."""
    assert spots("cat", "Concatenate a Cat") == [(14, 17)]
    assert stands("5000", "it cost £5,000 then")
    assert not stands("500", "it cost £5,000 then")
    assert stands("", "anything") is False
