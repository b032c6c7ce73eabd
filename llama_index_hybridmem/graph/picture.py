"""Draws one name and what hangs on it as SVG; knows no store, and nothing of what names and facts mean.

The name stands in the middle, the others in rows to its left and right, those beside them further out. Each has a row
of its own, so labels cannot cover one another; labels on lines go where there is room, and nowhere when there is none.
There is no chance in it: the same picture gives the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from html import escape

from .picture_layout import (
    LABEL_AT,
    MEDIUM,
    SMALL,
    Arrow,
    Box,
    Line,
    Picture,
    Placed,
    Point,
    boxes,
    label_of,
    layout,
    spoken,
    width_of,
)

_MARGIN = 18
_PLACES = (0.62, 0.54, 0.7, 0.46, 0.78, 0.38)  # along a line, for its label

# What XML 1.0 has no way to write, lone surrogates among it.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

STYLE = """
.hm-paper{fill:#fff}.hm-line{stroke:#c3cad6;fill:none}.hm-fact{stroke:#c0602a;stroke-width:1.4;fill:none}
.hm-head{fill:#c0602a}.hm-middle{fill:#173a6b}.hm-name{fill:#3f74bd}.hm-far{fill:#93b3de}
.hm-thing{fill:#fff;stroke:#c0602a;stroke-width:1.5}
.hm-text{font:13px system-ui,sans-serif;fill:#1b2330;stroke:#fff;stroke-width:4px;stroke-linejoin:round;
paint-order:stroke;unicode-bidi:isolate}
.hm-large{font-size:17px;font-weight:600}.hm-words{font-size:11px;fill:#8c3d12}.hm-count{font-size:11px;fill:#5e6878}
@media (prefers-color-scheme:dark){.hm-paper{fill:#14181f}.hm-line{stroke:#465061}.hm-fact{stroke:#e08a52}
.hm-head{fill:#e08a52}.hm-middle{fill:#dbe8ff}.hm-name{fill:#6fa0e3}.hm-far{fill:#45618c}
.hm-thing{fill:#14181f;stroke:#e08a52}.hm-text{fill:#e6eaf1;stroke:#14181f}.hm-words{fill:#f0ab7c}
.hm-count{fill:#9aa6b8}}
"""


def draw(picture: Picture) -> str:
    """Draw a picture as an SVG document that loads nothing and runs nothing, for light and dark surroundings."""
    placed = layout(picture)
    taken = [box for each in placed.values() for box in boxes(each)]
    drawn = [_line(line, placed) for line in picture.lines if {line.one, line.other} <= placed.keys()]
    arrows = [arrow for arrow in picture.arrows if {arrow.tail, arrow.head} <= placed.keys()]
    drawn += [_arrow(arrow, placed) for arrow in arrows]
    drawn += [_dot(each) for each in placed.values()]
    drawn += filter(None, (_words(arrow, placed, taken) for arrow in arrows))
    drawn += filter(None, (_count(line, placed, taken) for line in picture.lines if line.count > 1))
    left, top = (min(box[axis] for box in taken) - _MARGIN for axis in (0, 1))
    right, bottom = (max(box[axis] for box in taken) + _MARGIN for axis in (2, 3))
    width, height = right - left, bottom - top
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{_numbers(left, top, width, height)}" role="img" aria-labelledby="hm-title hm-description">',
            f'<title id="hm-title">{written(picture.title)}</title>',
            f'<desc id="hm-description">{written(picture.description)}</desc>',
            f"<style>{STYLE}</style>",
            '<defs><marker id="hm-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path class="hm-head" d="M0,0.8 L8,4 L0,7.2 z"/></marker></defs>',
            f'<rect class="hm-paper" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def written(text: str) -> str:
    """Write any text so that it is text in XML and HTML and nothing else, in attributes, too."""
    return escape(_UNWRITABLE.sub("\ufffd", text))


def _dot(each: Placed) -> str:
    kind = "hm-thing" if not each.dot.is_name else ("hm-middle", "hm-name", "hm-far")[each.depth]
    (x, y), label = each.at, label_of(each.dot)
    if each.depth == 0:
        place = f'class="hm-text hm-large" text-anchor="middle" x="{x:.1f}" y="{y - 18:.1f}"'
    else:
        anchor = "start" if each.side > 0 else "end"
        place = f'class="hm-text" text-anchor="{anchor}" x="{x + each.side * LABEL_AT:.1f}" y="{y + 4.5:.1f}"'
    return (
        f'<g><title>{written(each.dot.told)}</title><circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" '
        f'r="{each.radius:.1f}"/><text {place}>{written(label)}</text></g>'
    )


def _ends(one: Placed, other: Placed) -> tuple[Point, Point, Point]:
    """Where a line between two dots begins and ends, and the point that bends it."""
    first, last = one.at, other.at
    if {one.depth, other.depth} == {1, 2} and one.side == other.side:  # begins behind the inner dot's label
        inner = one if one.depth == 1 else other
        behind = (inner.at[0] + inner.side * (18 + width_of(label_of(inner.dot), MEDIUM)), inner.at[1])
        first, last = (behind, last) if inner is one else (first, behind)
        return first, (behind[0] + inner.side * 26, (other if inner is one else one).at[1]), last
    if 0 in (one.depth, other.depth):
        return first, ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), last
    same = one.side == other.side
    return first, ((first[0] + last[0]) * (0.3 if same else 0.5), (first[1] + last[1]) / 2 + (0 if same else 46)), last


def _line(line: Line, placed: Mapping[str, Placed]) -> str:
    one, other = placed[line.one], placed[line.other]
    told = f"{one.dot.label}, {other.dot.label}: {line.count} {'passage' if line.count == 1 else 'passages'} in common"
    width = 0.8 + min(2.2, 0.35 * math.sqrt(line.count))
    path = f'<path class="hm-line" stroke-width="{width:.1f}" d="{_path(*_ends(one, other))}"/>'
    return f"<g><title>{written(told)}</title>{path}</g>"


def _arrow(arrow: Arrow, placed: Mapping[str, Placed]) -> str:
    ends = placed[arrow.tail].dot.label, placed[arrow.head].dot.label
    told = "\n".join(f"{ends[0]} → {relation} → {ends[1]}" for relation in arrow.relations)
    path = f'<path class="hm-fact" marker-end="url(#hm-head)" d="{_path(*_course(arrow, placed))}"/>'
    return f"<g><title>{written(told)}</title>{path}</g>"


def _course(arrow: Arrow, placed: Mapping[str, Placed]) -> tuple[Point, Point, Point]:
    """An arrow's way: bent a little beside the line of passages in common, and up to the head's rim."""
    tail, head = placed[arrow.tail], placed[arrow.head]
    first, bend, last = _ends(tail, head)
    length = math.dist(first, last) or 1
    bent = (bend[0] - (last[1] - first[1]) / length * 10, bend[1] + (last[0] - first[0]) / length * 10)
    way = math.dist(bent, last) or 1
    rim = head.radius + 2
    return first, bent, (last[0] + (bent[0] - last[0]) / way * rim, last[1] + (bent[1] - last[1]) / way * rim)


def _words(arrow: Arrow, placed: Mapping[str, Placed], taken: list[Box]) -> str:
    course = _course(arrow, placed)
    if placed[arrow.tail].depth > placed[arrow.head].depth:  # labels stand where the lines have spread
        course = course[::-1]
    return _beside_line(spoken(arrow), "hm-words", course, _PLACES, taken)


def _count(line: Line, placed: Mapping[str, Placed], taken: list[Box]) -> str:
    ends = _ends(placed[line.one], placed[line.other])
    return _beside_line(f"{line.count:,}", "hm-count", ends, (0.86, 0.8, 0.92, 0.74, 0.3, 0.2), taken)


def _beside_line(
    text: str, kind: str, course: tuple[Point, Point, Point], places: Iterable[float], taken: list[Box]
) -> str:
    """Write on a line at the first place that is free, and take it; "" when none is."""
    width = width_of(text, SMALL)
    for place in places:
        x, y = _along(course, place)
        box = (x - width / 2 - 2, y - 6.5, x + width / 2 + 2, y + 6.5)
        if not any(_overlap(box, other) for other in taken):
            taken.append(box)
            place_of_text = f'text-anchor="middle" x="{x:.1f}" y="{y + 4:.1f}"'
            return f'<text class="hm-text {kind}" {place_of_text}>{written(text)}</text>'
    return ""


def _along(course: tuple[Point, Point, Point], place: float) -> Point:
    weights = ((1 - place) ** 2, 2 * place * (1 - place), place**2)
    x, y = (sum(weight * point[axis] for weight, point in zip(weights, course, strict=True)) for axis in (0, 1))
    return x, y


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _path(first: Point, bend: Point, last: Point) -> str:
    return f"M{_numbers(*first)} Q{_numbers(*bend)} {_numbers(*last)}"


def _numbers(*values: float) -> str:
    return " ".join(f"{value + 0.0:.1f}" for value in values)
