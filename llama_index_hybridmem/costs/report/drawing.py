"""Draws with matplotlib, and makes of it SVG for a page: its font, its colours, light or dark; knows no figures.

A drawing is `WIDTH` units wide, which is about the pixels of a phone: letters of 12 units stay legible there. Colours
are roles ("ink", "one", …) that the page's style fills in, for light and for dark surroundings.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from llama_index_hybridmem.costs.report.wording import clean, writable

if TYPE_CHECKING:
    from matplotlib.artist import Artist

WIDTH = 340.0

ROLES = ("ink", "dim", "line", "track", "one", "two", "three", "four", "five")
"""Text, lesser text, thin lines, what bars stand on, and five colours to tell things apart."""

# Matplotlib wants real colours: each role is a shade that nobody would choose, and the role's name takes its place.
_STAND_IN = {role: f"#f0e1{place:02x}" for place, role in enumerate(ROLES)}
_ROLE = re.compile("|".join(_STAND_IN.values()))
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridmem",
    "text.parse_math": False,  # a dollar is a dollar
    "path.simplify": False,
}
_SVG = "{http://www.w3.org/2000/svg}"
_FONT_FAMILY = re.compile(r"\s*font-family:[^;]*;?")
_NUMBER = re.compile(r"-?\d+\.\d+")
Point = tuple[float, float]


class Drawing:
    """An empty sheet; (0, 0) is its upper left corner.

    Args:
        height: in units; the width is `WIDTH`.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self._made: list[Callable[[], Artist]] = []  # drawn last, under settings of our own

    def bar(self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> None:
        """Fill a rectangle."""
        from matplotlib.patches import Rectangle

        look: Any = {"facecolor": _STAND_IN[colour], "linewidth": 0, "alpha": opacity}
        self._made.append(lambda: Rectangle((x, y), width, height, **look))

    def area(self, corners: Sequence[Point], colour: str, opacity: float = 0.14) -> None:
        """Fill a polygon."""
        from matplotlib.patches import Polygon

        look: Any = {"facecolor": _STAND_IN[colour], "linewidth": 0, "alpha": opacity}
        self._made.append(lambda: Polygon(corners, **look))

    def line(self, points: Sequence[Point], colour: str, width: float = 1, dashes: Sequence[float] = ()) -> None:
        """Draw a line through points; dashes: lengths of ink and gap, in units."""
        from matplotlib.lines import Line2D

        style: Any = (0, tuple(length / width for length in dashes)) if dashes else "-"
        xs, ys = zip(*points, strict=True)
        look = {"color": _STAND_IN[colour], "linewidth": width, "linestyle": style}
        self._made.append(lambda: Line2D(xs, ys, **look))

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fill a circle."""
        from matplotlib.patches import Circle

        look = {"facecolor": _STAND_IN[colour], "linewidth": 0}
        self._made.append(lambda: Circle((x, y), radius, **look))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        colour: str = "ink",
        anchor: str = "left",
        bold: bool = False,
    ) -> None:
        """Write text with its baseline at a point, which is its "left" end, its "center" or its "right" end."""
        from matplotlib.text import Text

        weight = "bold" if bold else "normal"
        look: dict[str, Any] = {"size": size, "color": _STAND_IN[colour], "ha": anchor, "weight": weight}
        self._made.append(lambda: Text(x, y, clean(text), va="baseline", **look))

    def svg(self, name: str, title: str, description: str) -> str:
        """Give the SVG element; the same drawing gives the same bytes.

        Args:
            name: makes its ids unique in the page.
            title: what a screen reader announces.
            description: what it reads then.
        """
        box = f"0 0 {_short(WIDTH)} {_short(self.height)}"
        ids = f"{name}-title", f"{name}-description"
        return "\n".join(
            [
                f'<svg viewBox="{box}" role="img" aria-labelledby="{ids[0]} {ids[1]}">',
                f'<title id="{ids[0]}">{escape(writable(title))}</title>',
                f'<desc id="{ids[1]}">{escape(writable(description))}</desc>',
                *_elements(self._rendered()),
                "</svg>",
            ]
        )

    def _rendered(self) -> bytes:
        """What matplotlib makes of it, a unit as a point."""
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        settings: Any = _SETTINGS
        written = BytesIO()
        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()  # whatever the user has set, and has again afterwards
            matplotlib.rcParams.update(settings)
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font has it
            warnings.filterwarnings("ignore", message="Matplotlib currently does not support")  # the browser does
            figure = Figure(figsize=(WIDTH / 72, self.height / 72), dpi=72)
            figure.patch.set_visible(False)
            downwards = Affine2D().scale(1, -1).translate(0, self.height)
            for place, make in enumerate(self._made):
                artist = make()
                artist.set(transform=downwards, zorder=place, clip_on=False)
                figure.add_artist(artist)
            figure.savefig(written, format="svg", metadata={"Date": None})
        return written.getvalue()


def _elements(rendered: bytes) -> Iterator[str]:
    """The paths and texts of matplotlib's SVG, without all that stands around them."""
    for element in ElementTree.fromstring(rendered).iter():
        style = _ROLE.sub(_variable, _FONT_FAMILY.sub("", element.get("style", "")))
        if element.tag == f"{_SVG}path":
            course = _NUMBER.sub(lambda found: _short(float(found[0])), " ".join(element.get("d", "").split()))
            yield f'<path d="{escape(course)}" style="{escape(style)}"/>'
        elif element.tag == f"{_SVG}text":
            x, y = (_short(float(element.get(axis, "0"))) for axis in "xy")
            yield f'<text x="{x}" y="{y}" style="{escape(style)}">{escape("".join(element.itertext()))}</text>'


def _variable(found: re.Match[str]) -> str:
    return f"var(--{next(role for role, shade in _STAND_IN.items() if shade == found[0])})"


def _short(number: float) -> str:
    """One digit behind the point, none where it is 0: a tenth of a pixel cannot be seen."""
    return f"{round(number, 1) + 0.0:g}"
