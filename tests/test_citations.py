"""Verbatim citations: marks, quotes and sections of quotes, looked up in the sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.citations import Cited, check_citations

SOURCES = ["Refunds take five working days.", "The fee of a wire is $25, or $1,200 a year.", "Five working days, too."]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("five working days [1]", [(1, True, (3,))]),
        ("Five  working\ndays. [2]", [(2, False, (1, 3))]),
        ("Five working days [1], the fee of a wire is $25 [2].", [(1, True, (3,)), (2, True, ())]),
        ("Five working days [1][3].", [(1, True, (3,)), (3, True, (1,))]),
        ("Five working days [1, 3].", [(1, True, (3,)), (3, True, (1,))]),
        ("Five working days [1-3].", [(1, True, (3,)), (2, False, (1, 3)), (3, True, (1,))]),
        ("No fee at all. Refunds take five working days [1].", [(1, True, ())]),
        ("six working days [1]", [(1, False, ())]),
        ("$1 [2]", [(2, False, ())]),
        ("$1,200 [2]", [(2, True, ())]),
        ("ive working days [1]", [(1, False, ())]),
        ("five working days [4]", [(4, False, (1, 3))]),
        ("[1]", [(1, None, ())]),
        ("[9]", [(9, False, ())]),
        ("five working days", []),
    ],
)
def test_marks_are_looked_up(answer: str, found: list[tuple[int, bool | None, tuple[int, ...]]]) -> None:
    """Each mark stands behind the words since its sentence began or the last mark; case, blanks, edges are folded."""
    checked = check_citations(answer, SOURCES)
    assert [(each.number, each.found, each.elsewhere) for each in checked.each] == found
    decided = [each for _, each, _ in found if each is not None]
    assert checked.verbatim == (all(decided) if decided else None)
    assert all(each.exists == (each.number is not None and each.number <= 3) for each in checked.each)


def test_quotes_are_looked_up() -> None:
    """RAFT's quotes with and without a number, and lines under "Quotes:"; a reason's numbers are no citations."""
    raft = "$25 ##begin_quote##fee of a wire is $25##end_quote## [1] ##begin_quote##six days##end_quote##"
    assert [(each.number, each.text, each.found) for each in check_citations(raft, SOURCES).each] == [
        (None, "fee of a wire is $25", True),
        (1, "six days", False),
    ]
    lines = 'Quotes:\n[1] "Refunds take five"\n[2] "five"\nReason: [3] is cut off.\nAnswer: five working days [3].'
    assert check_citations(lines, SOURCES).each == (
        Cited(1, "Refunds take five", True, True),
        Cited(2, "five", True, False, (1, 3)),
        Cited(3, "five working days", True, True, (1,)),
    )
    named = "Quotes:\n[2] ##begin_quote##The fee##end_quote##\nReason: none.\nAnswer: $25."
    assert check_citations(named, SOURCES).each == (Cited(2, "The fee", True, True),)
    assert check_citations('Quotes:\n[1] "Refunds take"', SOURCES).verbatim is True


def test_scripts_without_blanks_are_looked_up() -> None:
    """A stretch of Chinese is words wherever it stands."""
    assert check_citations("五个工作日 [1]", ["退款需要五个工作日完成。"]).verbatim is True
    assert check_citations("六个工作日 [1]", ["退款需要五个工作日完成。"]).verbatim is False


@given(st.text(max_size=60), st.lists(st.text(max_size=40), max_size=3))
def test_no_text_is_too_strange(answer: str, sources: list[str]) -> None:
    """Whatever is asked, it says something, and what it found stands there but for what is folded."""
    for text in (answer, f"{answer} [1]", f'Quotes:\n[2] "{answer}"\nAnswer: ##begin_quote##{answer}##end_quote##'):
        checked = check_citations(text, sources)
        assert checked.verbatim in (None, all(each.found is not False for each in checked.each))
        assert all(each.number is None or each.exists == (1 <= each.number <= len(sources)) for each in checked.each)


@given(st.lists(st.from_regex(r"[A-Za-z]{1,6}", fullmatch=True), min_size=1, max_size=9), st.data())
def test_a_stretch_of_a_source_is_found_there(source: list[str], data: st.DataObject) -> None:
    """Any run of words is verbatim, however it is cased and spaced; with a word more it is not."""
    first = data.draw(st.integers(0, len(source) - 1))
    last = data.draw(st.integers(first + 1, len(source)))
    stretch = "  ".join(source[first:last]).swapcase()
    assert check_citations(f"{stretch} [1].", [" ".join(source)]).verbatim is True
    assert check_citations(f"{stretch} absent-word [1].", [" ".join(source)]).verbatim is False
