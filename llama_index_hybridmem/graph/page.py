"""Makes of a portrait a picture, and a page with the picture and its tables; knows no store and writes no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .entities import normalise
from .picture import draw, written
from .picture_layout import Arrow, Dot, Line, Picture
from .portrait import Portrait, Statement

_MOST_THINGS = 12
"""Ends of facts that are drawn though they share no passage with the name; all of them are in the tables."""

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#1b2330}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{margin:.3rem 0}
figure{margin:1rem 0;overflow-x:auto}figure svg{max-width:100%;min-width:56rem;height:auto}
figcaption,.dim{color:#5e6878}table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;
padding:.25rem 1rem .25rem 0;border-bottom:1px solid #e3e7ee;overflow-wrap:anywhere}th{font-weight:500;color:#5e6878}
.number{text-align:right}
@media (prefers-color-scheme:dark){body{background:#14181f;color:#e6eaf1}td,th{border-color:#2b3340}
figcaption,.dim,th{color:#9aa6b8}}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CAPTION = (
    "Thin line: passages in common, one where no number stands. Arrow: a fact, from subject to object. Hollow dot: the "
    "end of a fact that shares no passage with the name."
)


def svg(portrait: Portrait) -> str:
    """Draw the neighbourhood as an SVG document."""
    return draw(_picture(portrait))


def html(portrait: Portrait) -> str:
    """Write the neighbourhood as one HTML page: the picture, and everything in it as tables. It loads nothing."""
    said = f"{counted(portrait.passages, 'passage')}; written {', '.join(portrait.forms)}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{written(portrait.written)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f'<h1>{written(portrait.written)}</h1>\n<p class="dim">{written(said)}</p>',
            f"<figure>\n{svg(portrait)}<figcaption>{_CAPTION}</figcaption>\n</figure>",
            *_tables(portrait),
            "</main>\n</body>\n</html>\n",
        ]
    )


def counted(number: int, noun: str) -> str:
    """Say how many: "1 passage", "1,024 passages"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def provenance(statement: Statement) -> str:
    """Say where a fact comes from: what it was read by, and the passages it was read from."""
    return ", ".join([*statement.sources, *statement.node_ids]) or "stated"


def _picture(portrait: Portrait) -> Picture:
    middle = Dot(portrait.name, portrait.written, _told(portrait.written, portrait.passages), None)
    near = [
        Dot(each.name, each.written, _told(each.written, each.passages, portrait.written), each.beside, each.passages)
        for each in portrait.near
    ]
    dots = {dot.key: dot for dot in [middle, *near]}
    for thing in _things(portrait):
        if len(dots) < 1 + len(near) + _MOST_THINGS:
            dots.setdefault(normalise(thing), Dot(normalise(thing), thing, thing, portrait.name, is_name=False))
    lines = [Line(each.beside, each.name, each.passages) for each in portrait.near]
    facts = counted(len(portrait.statements), "fact")
    description = f"{portrait.written} with {counted(len(near), 'name')} it shares passages with, and {facts}."
    arrows = _arrows([*portrait.statements, *portrait.ties])
    return Picture(f"{portrait.written} and what hangs on it", description, list(dots.values()), lines, arrows)


def _told(label: str, passages: int, beside: str = "") -> str:
    return f"{label}: {counted(passages, 'passage')}{f' with {beside}' if beside else ''}"


def _things(portrait: Portrait) -> Iterator[str]:
    for statement in portrait.statements:
        yield from (end for end in (statement.object, statement.subject) if normalise(end))


def _arrows(statements: Iterable[Statement]) -> list[Arrow]:
    relations: dict[tuple[str, str], list[str]] = {}
    for each in statements:
        ends = normalise(each.subject), normalise(each.object)
        if ends[0] != ends[1] and each.relation not in relations.setdefault(ends, []):
            relations[ends].append(each.relation)
    return [Arrow(*ends, tuple(found)) for ends, found in relations.items() if found]


def _tables(portrait: Portrait) -> Iterator[str]:
    facts = [(each.subject, each.relation, each.object, provenance(each)) for each in portrait.statements]
    ties = [(each.subject, each.relation, each.object, provenance(each)) for each in portrait.ties]
    yield from _table("Facts", ("subject", "relation", "object", "from"), facts)
    yield from _table("Facts between the others", ("subject", "relation", "object", "from"), ties)
    written_as = {portrait.name: portrait.written, **{each.name: each.written for each in portrait.near}}
    near = [(each.written, written_as[each.beside], f"{each.passages:,}") for each in portrait.near]
    yield from _table("Names in the same passages", ("name", "with", "passages"), near, number=2)
    passages = [(each.title or each.node_id, each.text) for each in portrait.excerpts]
    yield from _table("Passages", ("title", "text"), passages)


def _table(
    heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], number: int | None = None
) -> Iterator[str]:
    """A table with a heading, one column right-aligned; nothing without rows."""
    kinds = [' class="number"' if place == number else "" for place in range(len(columns))]

    def line(tag: str, cells: Sequence[str]) -> str:
        inside = (f"<{tag}{kind}>{written(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(inside)}</tr>"

    if rows:
        yield f"<h2>{heading}</h2>\n<table>\n<thead>{line('th', columns)}</thead>\n<tbody>"
        yield from (line("td", row) for row in rows)
        yield "</tbody>\n</table>"
