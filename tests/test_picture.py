"""Pictures of a neighbourhood: the same bytes each time, no label covered, nothing run; and what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_graph_store import passage

from llama_index_hybridmem.graph.page import html, svg
from llama_index_hybridmem.graph.picture import draw
from llama_index_hybridmem.graph.picture_layout import Arrow, Box, Dot, Line, Picture, boxes, layout
from llama_index_hybridmem.graph.portrait import Portrait, portrait
from llama_index_hybridmem.graph.spelling import similar_names
from llama_index_hybridmem.graph.stores.base import Fact
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore

SVG = "{http://www.w3.org/2000/svg}"
MEAN = "<script>alert(1)</script>"
TEXTS = [
    ("n1", "Intel and Micron founded IM Flash in Lehi. Ada met Intel.", "Intel"),
    ("n2", "Micron builds NAND for Intel. Optane was of Intel.", "Micron"),
    ("n3", "In Lehi stands the plant of Intel and Micron.", "Lehi"),
    ("n4", "Ada was born in London. London is large.", "Ada"),
]


def picture(near: int, far: int = 0) -> Picture:
    """A name, so many beside it and so many beside each of those, with facts and passages in common."""
    dots = [Dot("middle", "The middle", "all of it", None)]
    dots += [Dot(f"n{i}", f"Name number {i} of some length", "told", "middle", i) for i in range(near)]
    dots += [Dot(f"f{i}.{j}", f"Far {i}.{j}", "told", f"n{i}", j) for i in range(near) for j in range(far)]
    lines = [Line(dot.beside or "", dot.key, place + 1) for place, dot in enumerate(dots[1:])]
    arrows = [Arrow("middle", f"n{i}", ("was the founder of",)) for i in range(0, near, 2)]
    arrows += [Arrow(f"n{i}", f"n{i + 1}", ("sold", "bought")) for i in range(0, near - 1, 3)]
    return Picture("A title", "A sentence.", dots, lines, arrows)


def overlapping(one: Box, other: Box) -> bool:
    """Whether two rectangles share more than an edge."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.fixture
def store() -> Iterator[SqliteGraphStore]:
    """A small graph with facts, stated and read."""
    made = SqliteGraphStore()
    read = {"n2": (Fact("Micron", "sold to", "Intel", "n2", "kg_extractors"),)}
    made.upsert([passage(key, text, title, facts=read.get(key, ())) for key, text, title in TEXTS])
    made.add_facts([Fact("Intel", "founded in", "1968", source="f.csv"), Fact("Micron", "sold to", "Intel")])
    made.add_facts([Fact("Micron", "owns a plant in", "Lehi", source="f.csv")])
    yield made
    made.close()


def known(store: SqliteGraphStore, name: str, **options: Any) -> Portrait:
    """The portrait of a name that is there."""
    found = portrait(store, name, **options)
    assert found is not None
    return found


# -- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("near", "far"), [(0, 0), (1, 0), (5, 0), (59, 0), (12, 4), (1, 30)])
def test_no_label_covers_another(near: int, far: int) -> None:
    """Dots and their labels, from none to 60, have room of their own."""
    placed = layout(picture(near, far))
    assert len(placed) == 1 + near + near * far
    rooms = [[*boxes(each)] for each in placed.values()]
    assert not any(overlapping(a, b) for one, other in combinations(rooms, 2) for a in one for b in other)


@pytest.mark.parametrize(("near", "far"), [(0, 0), (5, 0), (40, 0), (12, 4)])
def test_all_of_it_lies_within_the_picture(near: int, far: int) -> None:
    """The picture is as large as what is in it; every dot, line and arrow is drawn, and the same bytes each time."""
    drawn = draw(picture(near, far))
    assert drawn == draw(picture(near, far))
    root = ElementTree.fromstring(drawn)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for circle in root.iter(f"{SVG}circle"):
        assert left < float(circle.attrib["cx"]) < left + width
        assert top < float(circle.attrib["cy"]) < top + height
    assert len(list(root.iter(f"{SVG}circle"))) == 1 + near + near * far
    paths = [path.attrib["class"] for path in root.iter(f"{SVG}path")]
    assert paths.count("hm-line") == near + near * far
    assert paths.count("hm-fact") == len(picture(near, far).arrows)


def test_who_cannot_see_it_is_told() -> None:
    """It has a role, a title and a description that it names; what is pointed at says what it is, in full."""
    root = ElementTree.fromstring(draw(picture(3)))
    assert root.attrib["role"] == "img"
    named = {element.attrib["id"]: element.text for element in root.iter() if "id" in element.attrib}
    assert [named[key] for key in root.attrib["aria-labelledby"].split()] == ["A title", "A sentence."]
    told = [title.text for title in root.iter(f"{SVG}title")]
    assert "The middle, Name number 1 of some length: 2 passages in common" in told
    assert "The middle → was the founder of → Name number 0 of some length" in told


def test_it_suits_light_and_dark_and_loads_nothing() -> None:
    """Both colour schemes are in it; no script, no address to load from."""
    drawn = draw(picture(3))
    assert "@media (prefers-color-scheme:dark)" in drawn
    assert "<script" not in drawn
    assert re.findall(r"(?:href|src|url)\W*=|url\((?!#)|https?://(?!www\.w3\.org/2000/svg)|@import", drawn) == []


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_text(label: str, words: str) -> None:
    """Whatever characters names and facts hold, the picture is well-formed and has the same elements."""
    dots = [Dot("a", label, label, None), Dot("b", words, words, "a", is_name=False)]
    root = ElementTree.fromstring(draw(Picture(label, words, dots, [Line("a", "b", 2)], [Arrow("b", "a", (words,))])))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "defs", "marker", "path", "rect", "g", "circle", "text",
    }  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page and its text, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; an event handler would be an attribute."""
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.words.append(data)


def test_mean_names_stay_text_on_the_page(store: SqliteGraphStore) -> None:
    """Names, relations, titles, ids and texts with markup in them are shown as they are written, and nothing runs."""
    fact = Fact(f"Intel {MEAN}", '" onload="alert(1)', "]]><img src=x onerror=alert(1)>", source=MEAN)
    mean = passage(f"n{MEAN}", f"Intel {MEAN} met Ada's & friends", "Intel <b>", facts=(fact,))
    store.upsert([mean])
    store.add_names([f"Intel {MEAN}"])
    store.add_facts([Fact("Intel", MEAN, MEAN, source=MEAN)])
    page = html(known(store, "intel", hops=2))
    seen = Tags(page)
    assert {"script", "img", "b"}.isdisjoint(seen.tags)
    assert MEAN in seen.words
    assert "&lt;script&gt;" in page
    ElementTree.fromstring(svg(known(store, "intel", hops=2)))


# -- the portrait -----------------------------------------------------------------------------------------------------


def test_a_portrait_has_all_that_is_known(store: SqliteGraphStore) -> None:
    """Spellings, facts once with all they come from, names by passages in common, passages titled by it first."""
    found = known(store, "INTEL")
    assert (found.name, found.written, found.passages, found.common) == ("intel", "Intel", 3, False)
    facts = {(each.subject, each.relation, each.object): (each.node_ids, each.sources) for each in found.statements}
    assert facts == {
        ("Intel", "founded in", "1968"): ((), ("f.csv",)),
        ("Micron", "sold to", "Intel"): (("n2",), ("kg_extractors",)),
    }
    assert [(each.subject, each.object) for each in found.ties] == []
    near = {each.name: each.passages for each in found.near}
    assert list(near)[0] == "micron"
    assert near["micron"] == 3
    assert near["lehi"] == 2
    assert near["ada"] == 1
    assert [each.node_id for each in found.excerpts] == ["n1", "n2", "n3"]
    assert found.excerpts[0].titled
    assert "Intel" in found.excerpts[2].text


def test_two_hops_go_on_from_the_strongest(store: SqliteGraphStore) -> None:
    """Names beside those beside it are listed with whom they are beside, each name once."""
    assert {each.beside for each in known(store, "intel").near} == {"intel"}
    found = known(store, "intel", hops=2)
    names = [each.name for each in found.near]
    assert len(names) == len(set(names))
    assert {each.name: each.beside for each in found.near}["london"] == "ada"
    assert [(each.subject, each.object) for each in found.ties] == [("Micron", "Lehi")]


def test_an_unknown_name_has_no_portrait_but_neighbours_in_spelling(store: SqliteGraphStore) -> None:
    """One letter wrong, accents, word order, a longer form: what was meant is the first suggestion."""
    assert portrait(store, "Intell") is None
    assert similar_names(store, "Intell") == ["intel"]
    assert similar_names(store, "Ïntel")[0] == "intel"
    assert similar_names(store, "Flash, IM")[0] == "im flash"
    assert similar_names(store, "Micron Technology")[0] == "micron"
    assert similar_names(store, "qqqq") == []
    assert similar_names(store, "") == []


def test_a_common_word_says_so(store: SqliteGraphStore) -> None:
    """A name mostly written in lower case is shown, and marked."""
    store.add_facts([Fact("Ada", "likes", "Ada")])
    store.upsert([passage("x", "a plant by the plant and a plant", "Plant")])
    assert known(store, "plant").common


def test_page_and_picture_hold_the_facts(store: SqliteGraphStore) -> None:
    """The page's tables have every fact with its provenance, and the things at their ends are drawn."""
    page = html(known(store, "intel", hops=2))
    words = " ".join(Tags(page).words)
    for expected in ("founded in", "1968", "f.csv", "kg_extractors", "owns a plant in", "Names in the same passages"):
        assert expected in words
    assert 'class="hm-thing"' in page
    assert "default-src 'none'" in page
