"""A training set's description for the terminal, and records with their damage to be seen; computes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..export.description import Description, Rate
    from ..export.record import Record
    from ..noise.scene import Damage, Passage

OPEN, CLOSE, LOST = "⟦", "⟧", "⟦…⟧"
"""Around what was changed, and where something was lost: to be seen without colours, too."""
_COLOURS = {
    "truncation": "red",
    "markdown": "magenta",
    "html": "blue",
    "ocr": "yellow",
    "encoding": "bright_yellow",
    "layout": "cyan",
    "language": "bright_blue",
    "metadata": "green",
    "stale": "bright_red",
    "counterfactual": "bright_magenta",
    "conflict": "bright_cyan",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NONE = "–"


def plain(text: str, style: str = "") -> Text:
    """Text of a data set without what would move the terminal's cursor, turn or colour what follows."""
    return Text(_CONTROL.sub("\ufffd", text), style)


def description(found: Description) -> Iterator[RenderableType]:
    """Draw a description: the verdict, the noise, lengths, splits, and what to look at."""
    tallies, lengths = found.tallies, found.lengths
    yield plain(found.verdict[1], "bold")
    yield Text()
    yield _noise(found)
    yield plain(
        f"Shares of passages (of questions for order, gold_removed). Achieved: measured in {found.noise.measured:,} "
        "records by detectors, corrected for their errors; injected: exact.",
        "dim",
    )
    yield Text()
    yield _table(
        ("split", "records", "answered", "abstained"),
        [(split, f"{n:,}", f"{can:,}", f"{n - can:,}") for split, (n, can) in tallies.splits.items()],
    )
    if lengths is not None and lengths.total.longest is not None:
        yield Text()
        yield _lengths(found)
        yield plain(f"{lengths.format}, counted by {lengths.tokenizer}.", "dim")
    if found.warnings:
        yield Text()
        yield from (plain(f"! {each}", "yellow") for each in found.warnings)


def record(found: Record) -> Iterator[RenderableType]:
    """Draw a record: question, answer, every passage with its damage to be seen, and what was taken away."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("Record", plain(f"{found.id}   {found.split}, {found.origin}", "bold"))
    grid.add_row("Question", plain(found.question))
    grid.add_row("Answer", plain(found.answer, "green" if found.answerable else "yellow"))
    if not found.answerable and found.expected is not None:
        grid.add_row("Unsupported", plain(found.expected))
    for each in found.quotes:
        grid.add_row("Support", plain(f"“{each.text}” in {each.passage}"))
    yield grid
    for number, passage in enumerate(found.noisy, start=1):
        yield Text()
        yield from _passage(f"[{number}]", passage, found)
    for passage in found.removed:
        yield Text()
        yield from _passage("taken away:", passage, found)


def marked(text: str, damage: Sequence[Damage]) -> Text:
    """A passage's text with what was changed in brackets, coloured by kind; ⟦…⟧ where something was lost."""
    spans = sorted(
        (start, end, _COLOURS.get(each.kind, "red"))
        for each in damage
        for start, end in each.spans
        if (start, end) != (0, len(text)) and 0 <= start <= end <= len(text)
    )
    made, at = Text(), 0
    for start, end, colour in spans:
        if start < at:  # inside of one that is shown already
            continue
        made.append(plain(text[at:start]))
        shown = f"{OPEN}{text[start:end]}{CLOSE}" if end > start else LOST
        made.append(plain(shown, f"bold {colour}"))
        at = end
    return made.append(plain(text[at:]))


def done(damage: Damage) -> str:
    """Say what was done: operator, severity, places, fields, particulars."""
    parts = [f"{damage.operator} ({damage.kind}, {damage.severity:.2f})"]
    if damage.spans:
        parts.append(f"{len(damage.spans)} place{'' if len(damage.spans) == 1 else 's'}")
    if damage.fields:
        parts.append(f"fields {', '.join(damage.fields)}")
    parts += [f"{name} {value!r:.80}" for name, value in damage.note.items()]
    return ", ".join(parts)


def _passage(name: str, passage: Passage, of: Record) -> Iterator[RenderableType]:
    head = Text.assemble(
        (name, "bold"), " ", plain(passage.title or passage.id, "bold"), "  ", plain(_told(passage, of), "dim")
    )
    yield head
    for each in passage.damage:
        yield plain(f"    {done(each)}", _COLOURS.get(each.kind, "red"))
    yield marked(passage.text, passage.damage)


def _told(passage: Passage, of: Record) -> str:
    answers = ["answers"] if passage.id in of.gold else []
    fields = [f"{name}: {value}" for name, value in passage.metadata.items() if name != "title"]
    return ", ".join([passage.id, *answers, *([] if passage.damage else ["as retrieved"]), *fields])


def _noise(found: Description) -> Table:
    rows = [
        (
            each.kind,
            _rate(each.target),
            _NONE if each.injected is None else f"{each.injected:.1%}",
            _rate(each.achieved),
            _NONE if each.difference is None else f"{100 * each.difference:+.1f}",
        )
        for each in found.noise.lines
    ]
    return _table(("noise", "target", "injected", "achieved", "off, points"), rows)


def _lengths(found: Description) -> Table:
    lengths = found.lengths
    assert lengths is not None  # the caller has looked
    parts = (("prompt", lengths.prompt), ("completion", lengths.completion), ("total", lengths.total))
    rows = [
        (name, *(_NONE if number is None else f"{number:,}" for number in (of.median, of.p95, of.p99, of.longest)))
        for name, of in parts
    ]
    return _table(("tokens", "median", "95 %", "99 %", "longest"), rows)


def _rate(rate: Rate | None) -> str:
    return _NONE if rate is None else f"{rate.share:.1%} ({100 * rate.low:.1f}…{100 * rate.high:.1f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(plain, row))
    return table
