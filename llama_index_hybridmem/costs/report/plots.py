"""What a plot of the report is: a title, a sentence that says it in figures, a drawing; knows no summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from llama_index_hybridmem.costs.report.drawing import Drawing

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot.

    Attributes:
        title: what it is about.
        sentence: what it shows, in figures; the plot's description, too.
        svg: an element of SVG, as `Drawing.svg` makes it; it stands in the page as it is.
        note: how to read it.
    """

    title: str
    sentence: str
    svg: str
    note: str = ""


def plot(name: str, title: str, sentence: str, drawing: Drawing, note: str = "") -> Plot:
    """Make a plot of a drawing; the name makes its ids unique in the page."""
    return Plot(title, sentence, drawing.svg(name, title, sentence), note)


def first(things: Sequence[Thing], most: int) -> tuple[Sequence[Thing], Sequence[Thing]]:
    """Part what is shown from what is folded into one row; one thing alone is never folded."""
    return (things, ()) if len(things) <= most + 1 else (things[:most], things[most:])
