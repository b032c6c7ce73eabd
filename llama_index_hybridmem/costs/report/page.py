"""Puts the report together as one HTML page that loads nothing and runs nothing; knows no trace and writes no file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llama_index_hybridmem import extras
from llama_index_hybridmem.costs.figures.summary import Summary
from llama_index_hybridmem.costs.report import wording
from llama_index_hybridmem.costs.report.sections import Figure, Section, figures, headline, sections

TITLE = "What the queries cost, and where their time went"

_NOTES = (
    "Latencies are those of queries that ended well; costs per query those of queries whose every model call has a "
    "price. ≥ stands before sums to which calls without a price come. Nothing unknown is counted as zero."
)
_HERE = Path(__file__).parent


def render(
    summary: Summary, sections_: Sequence[Section] = (), *, title: str = TITLE, source: str = "", made: str = ""
) -> str:
    """Write the report.

    Args:
        summary: what the traces came to.
        sections_: further sections; they stand before the one on trust.
        title: the page's.
        source: where the traces come from, as text.
        made: when the report was made, as text. Without it the same summary gives the same bytes.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    extras.require("the report", "report", "jinja2", "matplotlib")
    shown = figures(summary) if summary.traces else []
    parts = sections(summary, sections_)
    return compose(title, headline(summary), shown, parts, notes=_NOTES, source=source, made=made)


def compose(
    title: str,
    headline: str,
    figures: Sequence[Figure],
    sections: Sequence[Section],
    *,
    notes: str = "",
    source: str = "",
    made: str = "",
) -> str:
    """Write any page in the report's style.

    Args:
        title: the page's.
        headline: a sentence below it.
        figures: what stands out.
        sections: what follows.
        notes: at the end, on how to read all of it.
        source: where the figures come from.
        made: when the page was made.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    extras.require("the report", "report", "jinja2")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    written = template.render(
        title=title,
        headline=headline,
        figures=figures,
        sections=sections,
        notes=notes,
        source=source,
        made=made,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
    )
    return wording.writable(written)
