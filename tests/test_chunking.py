"""Cutting texts: nothing lost, nothing too long, structure kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.chunking import Chunk, chunk, title_of, windows
from llama_index_hybridmem.markdown import Block, blocks


def words(text: str) -> int:
    """Counts what stands between white space."""
    return len(text.split())


def halves(text: str) -> int:
    """Counts two characters as a token, so that long words are many tokens."""
    return (len("".join(text.split())) + 1) // 2


def cut(text: str, max_tokens: int = 20) -> list[tuple[tuple[str, ...], str]]:
    """The sections and texts of a text's chunks, counted in words."""
    return [(piece.sections, piece.text) for piece in chunk(text, count=words, max_tokens=max_tokens)]


LINES = st.sampled_from(
    [
        *(
            "# Top",
            "## Sub ##",
            "###",
            "#no heading",
            "Under",
            "===",
            "---",
            "***",
            "",
            "",
            "  ",
            "<br>",
            "naïve ☕",
            "end\r",
        ),
        *(
            "```python",
            "```",
            "~~~~",
            "~~~",
            "    code",
            "\ttab",
            "| a | b |",
            "|---|:-:|",
            "| 1 | 2 |",
            "> quoted words",
        ),
        *(
            "- item one",
            "  * nested item",
            "3. third",
            "- [ ] task",
            "漢字。かな。",
            "a\u2028b",
            "....!!!",
            "x" * 50,
            "word " * 30,
        ),
        *("One sentence. Another one! A third? Yes.", "e.g. this one by J. Smith et al. is one sentence."),
    ]
)
MARKDOWN = st.one_of(
    st.lists(LINES, max_size=25).map("\n".join),
    st.text(alphabet="ab #`~|-=.\n\r *>1", max_size=80),
    st.text(max_size=60),
)
COUNTS = st.sampled_from([words, halves, len])


@settings(max_examples=150, deadline=None)
@given(text=MARKDOWN, count=COUNTS, max_tokens=st.integers(1, 40))
def test_chunks_are_ordered_slices_within_the_limit(text: str, count, max_tokens: int) -> None:  # type: ignore[no-untyped-def]
    """Chunks are slices in order without overlap, and only a single character may exceed the limit."""
    found = chunk(text, count=count, max_tokens=max_tokens)
    assert found == chunk(text, count=count, max_tokens=max_tokens)
    behind = 0
    for piece in found:
        assert piece.start >= behind
        behind = piece.end
        assert piece.text == text[piece.start : piece.end]
        assert piece.text.strip()
        assert count(piece.text) <= max_tokens or len(piece.text) == 1


@settings(max_examples=150, deadline=None)
@given(text=MARKDOWN, max_tokens=st.integers(1, 40))
def test_no_letter_is_lost(text: str, max_tokens: int) -> None:
    """Every letter and digit stands in a chunk, or in a heading that some chunk's sections name."""
    found = chunk(text, count=words, max_tokens=max_tokens)
    covered = {place for piece in found for place in range(piece.start, piece.end)}
    named = {title for piece in found for title in piece.sections}
    headings = [block for block in blocks(text) if block.kind == "heading"]
    for block in headings:
        if block.title in named:
            covered.update(range(block.start, block.end))
    lost = [text[place] for place in range(len(text)) if place not in covered and text[place].isalnum()]
    assert lost == []


@settings(max_examples=100, deadline=None)
@given(text=MARKDOWN)
def test_blocks_hold_every_visible_character(text: str) -> None:
    """The blocks are in order, do not overlap, and leave only white space out."""
    outside, behind = "", 0
    for block in blocks(text):
        assert behind <= block.start < block.end
        outside += text[behind : block.start]
        behind = block.end
    assert not (outside + text[behind:]).strip()


def test_sections_are_kept_as_paths() -> None:
    """Text stands under its headings, ATX or underlined; deeper paths end where a heading of their level begins."""
    text = "Before.\n\nMemory\n======\nAll of it.\n\n## DRAM ##\nLeaks.\n#### Refresh\n64 ms.\n\n"
    text += "NVM\n---\nStays.\n# End\nDone."
    assert cut(text) == [
        ((), "Before."),
        (("Memory",), "All of it."),
        (("Memory", "DRAM"), "Leaks."),
        (("Memory", "DRAM", "Refresh"), "64 ms."),
        (("Memory", "NVM"), "Stays."),
        (("End",), "Done."),
    ]


def test_bare_heading_is_a_chunk() -> None:
    """A heading with nothing under it, or only a rule, is not lost; one with a subheading needs no chunk."""
    assert cut("# A\n## Empty\n---\n## B\n### C\ntext\n## Last") == [
        (("A", "Empty"), "## Empty"),
        (("A", "B", "C"), "text"),
        (("A", "Last"), "## Last"),
    ]


def test_no_heading_inside_code() -> None:
    """Comments in fences, tildes or backticks, indented or unclosed, are no headings."""
    text = "# Real\n```sh\n# comment\n```\n~~~\n# other\n```\n~~~\n\n"
    text += "- item\n\n    ```\n    # deep\n    ```\n```\n# open\n\n# end"
    assert {sections for sections, _ in cut(text, 100)} == {("Real",)}
    assert [block.title for block in blocks(text) if block.kind == "heading"] == ["Real"]


def test_what_is_no_heading() -> None:
    """Tags, tables, list items, quotes, rules and front matter are not taken for headings."""
    text = "---\ntitle: x\n---\n#tag\n\na | b\n--|--\n1 | 2\n\n- item\n---\n\n"
    text += "> quote\n---\n\n---\n---\n\ntwo lines\nof text\n---\n"
    assert [block for block in blocks(text) if block.kind == "heading"] == []


def test_fences_and_tables_stay_whole() -> None:
    """A fence or table that fits is not cut, though the text around it is."""
    fence = "```\na = 1\n\nb = 2\n```"
    table = "| name | nm |\n|---|---|\n| DRAM | 12 |"
    text = f"{'One two three four. ' * 4}\n\n{fence}\n{'Five six seven. ' * 4}\n{table}"
    found = [piece for _, piece in cut(text, 16)]
    assert any(fence in piece for piece in found)
    assert any(table in piece for piece in found)


def test_oversized_table_is_cut_at_rows() -> None:
    """A table too long for one chunk is cut between rows, never inside one."""
    rows = ["| key | value |", "|---|---|", *(f"| k{number} | some words here |" for number in range(30))]
    found = [piece for _, piece in cut("\n".join(rows), 25)]
    assert len(found) > 5
    assert [line for piece in found for line in piece.split("\n")] == rows


def test_long_prose_is_cut_at_sentences() -> None:
    """Sentences stay whole where they fit, also behind abbreviations, initials and decimals."""
    first = 'J. Smith et al. measured 3.5 V, e.g. in Fig. 4 (see "Cells.").'
    text = f"{first} It held. Then came 記憶体。次の文。 Dr. Fujio Masuoka invented flash! Did it last? It did..."
    found = [piece for _, piece in cut(text, 13)]
    assert found[0] == first
    assert all(piece[-1] in ".!?。" for piece in found)


def test_sentence_too_long_is_cut_at_words() -> None:
    """A sentence beyond the limit is cut between words, and lines are tried before words."""
    assert [piece for _, piece in cut("a b c d\ne f g h i j k l\nm n", 5)] == ["a b c d", "e f g h i", "j k l", "m n"]


def test_word_too_long_is_cut_inside() -> None:
    """A word beyond the limit is cut into stretches that fit."""
    found = chunk("y" * 1000, count=halves, max_tokens=50)
    assert "".join(piece.text for piece in found) == "y" * 1000
    assert max(len(piece.text) for piece in found) <= 100


def test_prefix_counts() -> None:
    """What stands in front of a chunk takes from its budget, down to a quarter of it."""
    text = f"# One\n{'w ' * 40}\n# Two three four five six seven\n{'w ' * 40}"
    found = chunk(text, count=words, max_tokens=8, prefix=lambda sections: " ".join(sections))
    assert max(words(piece.text) for piece in found if piece.sections == ("One",)) == 7
    assert max(words(piece.text) for piece in found if piece.sections != ("One",)) == 2


def test_blank_and_bare_markup_give_nothing() -> None:
    """No letter, no chunk."""
    texts = ["", " \n\t\n", "---\n***\n", "#\n##", "```\n```", "|---|"]
    assert [chunk(text, count=words) for text in texts] == [[]] * len(texts)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems(end: str) -> None:
    """Carriage returns end lines as well, and spans still point into the text."""
    text = end.join(["# A", "one", "", "## B", "two"])
    one, two = text.index("one"), text.index("two")
    assert chunk(text, count=words) == [
        Chunk("one", ("A",), one, one + 3),
        Chunk("two", ("A", "B"), two, two + 3),
    ]


def test_title_is_the_front_matters_or_the_first_top_heading() -> None:
    """The title is the front matter's, else the first level-one heading that says something."""
    assert title_of("---\ndate: 1\ntitle: 'Flash: a history'\n---\n# other") == "Flash: a history"
    assert title_of("## no\n#\n```\n# no\n```\nYes\n===\n# later") == "Yes"
    assert title_of("## only\ntitle: text") is None


def test_front_matter_stays_together() -> None:
    """Front matter at the very start is one block of lines."""
    assert next(iter(blocks("---\na: 1\n\nb: 2\n---\ntext"))) == Block("lines", 0, 18)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(0, 60), size=st.integers(2, 20), overlap=st.integers(0, 10))
def test_windows_cover_every_token(tokens: int, size: int, overlap: int) -> None:
    """Every token is in a window, windows are no longer than asked, and none lies inside the one before."""
    offsets = [(3 * place, 3 * place + 2) for place in range(tokens)]
    found = windows(offsets, size, max(1, size - overlap))
    assert {place for start, end in found for place in range(tokens) if start <= 3 * place < end} == set(range(tokens))
    assert all(end - start <= 3 * size - 1 for start, end in found)
    assert all(before[1] < after[1] for before, after in zip(found, found[1:], strict=False))


def test_windows_by_hand() -> None:
    """180 tokens every 120, and none behind the window that reaches the end."""
    offsets = [(place, place + 1) for place in range(301)]
    assert windows(offsets) == [(0, 180), (120, 300), (240, 301)]
    assert windows(offsets[:300]) == [(0, 180), (120, 300)]
    assert windows([]) == []


@pytest.mark.parametrize(
    "text",
    ["." * 60_000, "A. " * 20_000, "```\n" * 20_000, "# a\n" * 5_000, "|" * 60_000, "x" * 200_000, "- \n" * 20_000],
    ids=["dots", "initials", "fences", "headings", "pipes", "word", "items"],
)
def test_hostile_text_costs_no_more(text: str) -> None:
    """Texts made to be slow take about as long as any other: an exponent would not come back."""
    assert chunk(text, count=words, max_tokens=50) is not None


def test_own_readme_style_file_round_trips() -> None:
    """This very file, read as plain text, is cut without losing a word."""
    text = Path(__file__).read_text(encoding="utf-8")
    found = chunk(text, count=words, max_tokens=60)
    kept = " ".join(title for piece in found for title in piece.sections) + " ".join(piece.text for piece in found)
    assert set(re.findall(r"\w+", text)) <= set(re.findall(r"\w+", kept))
