"""Tests of Markdown's structure, of what breaks it and of what finds it broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.chunking import chunk
from llama_index_hybridmem.errors import MissingExtraError
from llama_index_hybridmem.noise.detectors import markdown as detecting
from llama_index_hybridmem.noise.edits import edited
from llama_index_hybridmem.noise.operators import markdown as breaking
from llama_index_hybridmem.noise.operators.registry import damage_passage, operator
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.structure import KEPT, links, structure

NAMES = {
    "fence_unclosed": "fence",
    "fence_orphaned": "fence",
    "table_header_lost": "table",
    "table_cells_lost": "row",
    "heading_collapsed": "heading",
    "list_collapsed": "list",
}
DOCUMENT = """# Refresh

A row is read and written back. It takes time.

## How often

Every 64 ms, see [the standard](https://example.org/ddr5) and [a paper][row].

- first read
- then write
  - at once
- then wait

```python
def refresh(row):
    return read(row)
```

It is done by the controller:

| chip | rows | time |
|------|------|------|
| one | 8192 | 64 ms |
| two | 16384 | 32 ms |

[row]: https://example.org/row
"""
DETECTORS = (
    detecting.broken_fence,
    detecting.broken_table,
    detecting.heading_inside,
    detecting.list_inside,
    detecting.dangling_link,
)
marks = st.sampled_from(
    [
        "```",
        "```py",
        "~~~",
        "| a | b |",
        "|--|--|",
        "| 1 | 2 |",
        "# ",
        "## T",
        "===",
        "---",
        "- a",
        "  - b",
        "1. x",
        "2. y",
    ]
    + [
        "> ",
        "[a](b)",
        "![c](d)",
        "[e][f]",
        "[f]: /g",
        "x",
        "word. ",
        "\t",
        "    ",
        "\\|",
        "`a|b`",
        "\u200f",
        "\ud800",
        "漢字",
        "\0",
    ]
)
breaks = st.sampled_from(["\n", "\n\n", "\r\n", " ", "", "\r", "\u2028"])
markdown = st.lists(st.tuples(marks, breaks), max_size=25).map(lambda parts: "".join(map("".join, parts)))


def found(text: str) -> dict[str, float]:
    """What the detectors say of a text: operator to severity."""
    passage = Passage("a", text)
    findings = [each(passage, Scene("", (passage,))) for each in DETECTORS]
    assert all(0 < each.severity <= 1 for each in findings if each)
    assert all(0 <= start <= end <= len(text) for each in findings if each for start, end in each.spans)
    return {each.operator: each.severity for each in findings if each}


def broken(name: str, text: str, seed: str = "s", severity: float = 1.0) -> str:
    """A text after an operator."""
    return damage_passage(Passage("a", text), operator(name), severity, seed, World()).text


def sample() -> Iterator[str]:
    """The project's own documents."""
    folder = files("llama_index_hybridmem") / "sample" / "documents"
    return (each.read_text(encoding="utf-8") for each in sorted(folder.iterdir(), key=str))


def test_structure_has_the_places_of_all_blocks() -> None:
    """Each block's span is its text without the last line break."""
    there = {sort: structure(DOCUMENT).of(sort) for sort in ("heading", "fence", "table", "row", "list")}
    texts = {sort: [DOCUMENT[each.start : each.end] for each in blocks] for sort, blocks in there.items()}
    assert texts["heading"] == ["# Refresh", "## How often"]
    assert texts["fence"] == ["```python\ndef refresh(row):\n    return read(row)\n```"]
    assert texts["row"] == ["| one | 8192 | 64 ms |", "| two | 16384 | 32 ms |"]
    assert texts["table"][0].startswith("| chip")
    assert texts["table"][0].endswith("32 ms |")
    assert texts["list"] == ["- first read\n- then write\n  - at once\n- then wait"]
    assert there["fence"][0].closed


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_structure_counts_characters_of_any_line_break(line_break: str) -> None:
    """Places hold with Windows' and old line breaks."""
    text = line_break.join(["", "# A", "", "> ```", "> x", "> ```", "", "```", "y"])
    assert [text[each.start : each.end] for each in structure(text).of("heading")] == ["# A"]
    first, second = structure(text).of("fence")
    assert (first.closed, second.closed) == (True, False)
    assert text[slice(*first.lines[-1])] == "> ```"


def test_links_have_their_places_unless_they_are_code() -> None:
    """Links, images and references that have a definition count; code and undefined references do not."""
    text = 'A [b](c "t"), ![d](e(f)), `[g](h)`, [i][j], [k][l].\n\n[j]: /m'
    assert [text[each.start : each.end] for each in links(text).found] == ['[b](c "t")', "![d](e(f))", "[i][j]"]
    assert links(text).targets == {"c": 1, "e(f)": 1, "/m": 1}


def test_prose_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, prose has no structure and Markdown says what is missing."""
    from llama_index_hybridmem.noise.structure import _parser

    _parser.cache_clear()
    structure.cache_clear()
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    monkeypatch.setattr("llama_index_hybridmem.extras.find_spec", lambda name: None)
    assert structure("Plain prose - with a dash, C# and #1.").blocks == ()
    with pytest.raises(MissingExtraError, match="noise"):
        structure("# Heading")


@given(markdown)
def test_no_structure_is_missed_for_want_of_a_sign(text: str) -> None:
    """What is not parsed has no structure that a parser would see."""
    from llama_index_hybridmem.noise.structure import _parser

    seen = {token.type for token in _parser(inline=False).parse(text)}
    expected = seen & {"fence", "heading_open", "table_open", "bullet_list_open", "ordered_list_open"}
    assert bool(structure(text).blocks) == bool(expected)


def test_kept_structures_are_bounded() -> None:
    """An export of a million texts holds the last ones only."""
    assert structure.cache_info().maxsize == links.cache_info().maxsize == KEPT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", "abcdef")
def test_a_break_is_seen_by_the_parser(name: str, seed: str) -> None:
    """At severity 1 none of the structures is left as it was."""
    sort = NAMES[name]
    before = structure(DOCUMENT).contents(sort)
    text = broken(name, DOCUMENT, seed)
    assert text != DOCUMENT
    assert not before & structure(text).contents(sort)


@pytest.mark.parametrize("seed", "abcdefgh")
def test_broken_links_lead_nowhere(seed: str) -> None:
    """Whatever a link lost, the parser has it no more."""
    after = links(broken("link_broken", DOCUMENT, seed)).targets
    assert not after & links(DOCUMENT).targets


def test_what_happens_to_fences() -> None:
    """An unclosed fence runs to the end; an orphaned one starts where it should close."""
    (unclosed,) = structure(broken("fence_unclosed", DOCUMENT)).of("fence")
    assert not unclosed.closed
    assert unclosed.content[1].rstrip().endswith("/row")
    orphaned = broken("fence_orphaned", DOCUMENT)
    assert "```python" not in orphaned
    assert structure(orphaned).of("fence")[0].content[1].lstrip().startswith("It is done")


def test_severity_is_a_share_of_the_structures() -> None:
    """Of ten rows, three are broken at 0.3, one at 0.01 and all at 1."""
    table = "| a | b | c |\n|---|---|---|\n" + "".join(f"| {n}x | {n}y | {n}z |\n" for n in range(10))
    rows = structure(table).contents("row")
    for severity, share in ((0.01, 1), (0.3, 3), (1.0, 10)):
        left = structure(broken("table_cells_lost", table, severity=severity)).contents("row")
        assert (rows - left).total() == share


def test_what_stays_intact_is_no_break() -> None:
    """A row that reads the same without its last, empty cell is given back as it was, or loses another."""
    table = "| a | b |\n|---|---|\n| 1 | |\n"
    assert broken("table_cells_lost", table) == table


@given(markdown, st.sampled_from([*NAMES, "link_broken"]), st.floats(0.01, 1), st.integers(0, 99))
def test_operators_hold_for_any_text(text: str, name: str, severity: float, seed: int) -> None:
    """Edits are in order and inside, the same seed gives the same, and the parser confirms each change."""
    function = getattr(breaking, name)
    edits = function(text, severity, Random(seed))
    assert edits == function(text, severity, Random(seed))
    after, _ = edited(text, edits)
    assert (after == text) == (not edits)
    if edits and name in NAMES:
        before = structure(text).contents(NAMES[name])
        assert before - structure(after).contents(NAMES[name])
    if "\ud800" not in text:
        after.encode()


@given(markdown)
def test_detectors_hold_for_any_text(text: str) -> None:
    """Severities lie in 0 to 1, spans in the text, and no text is too odd."""
    found(text)
    found(text * 3)


def test_clean_documents_and_their_chunks_are_clean() -> None:
    """Nothing is found in 70 Markdown documents, nor in their sections' chunks."""
    for text in sample():
        assert not found(text)
        chunks = chunk(text, count=lambda piece: len(piece.split()), max_tokens=200)
        assert not [each.text for each in chunks if found(each.text)]


@pytest.mark.parametrize(
    "text",
    [
        "Run cat x | grep y | wc -l, or a || b; P(A | B) and |x| + |y|.",
        "Home | About | Contact",
        "# C\n\nC# and F# are languages; issue #12 and # 5 are not headings.",
        "- Name - what it does\n- Other - what that does - with an aside\n- Third - and so on - done",
        "/* a comment */ int main(void) { return a[i](x); } // done",
        "As shown before [1][2], and in [3], see a[0][1] and (this [sic] one).",
        "See [a link that\nis wrapped (twice)](https://example.org) here.",
        "````md\n```py\nx\n```\n````\n",
        "a | b\n--|--\n1 | 2\n",
        "`a | b` and `- x - y - z` and `[a](b`",
        "In 2. we saw that 3. follows.",
        "## Closed heading ##\n\nText.",
    ],
)
def test_what_looks_broken_but_is_not(text: str) -> None:
    """Pipes, dashes, hash signs and brackets of prose and code are left in peace."""
    assert found(text) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Use it so:\n\n```py\nx = 1\n", "fence_unclosed"),
        ("x = 1\ny = f(x);\n```\n\nThat was it, then.\n", "fence_orphaned"),
        ("```sh\nls;\n\nThen:\n\n```sh\ncat;\n```\n", "fence_unclosed"),
        ("| two | 16384 | 32 ms |\n| three | 1 | 2 ms |\n\nText", "table_header_lost"),
        ("|---|---|\n| a | b |\n", "table_header_lost"),
        ("| a | b | c |\n|---|---|---|\n| 1 | 2 |\n| 1 | 2 | 3 |\n", "table_cells_lost"),
        ("It ends here. ## Next section\n\nText.", "heading_collapsed"),
        ("Points:\n\n- read it - write it - wait for it\n\nDone.", "list_collapsed"),
        ("1. Open the box 2. Take it out 3. Close the box", "list_collapsed"),
        ("See [the docs](https://exam", "link_broken"),
        ("See [the docs](https://example.org and more.", "link_broken"),
        ("See [the docs(https://example.org).", "link_broken"),
        ("See the docs](https://example.org).", "link_broken"),
        ("See [the docs]() and [all docs][docs].", "link_broken"),
    ],
)
def test_what_is_broken_is_named(text: str, name: str) -> None:
    """A finding names the operator that makes such damage."""
    assert list(found(text)) == [name]


@pytest.mark.parametrize(
    ("name", "least"), [("table_header_lost", 1.0), ("table_cells_lost", 0.95), ("heading_collapsed", 0.6)]
)
def test_what_operators_break_is_found(name: str, least: float) -> None:
    """In the sample documents, all lost headers and nearly all rows are found, and most headings."""
    hits = [name in found(broken(name, text, f"{n}", 0.5)) for n, text in enumerate(sample())]
    assert len(hits) == 70
    assert sum(hits) >= least * len(hits)
