"""Draws an answer for a terminal; knows no engine and no store.

All text goes in as `Text`, never as markup: documents may hold square brackets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .answer import Answer, Source

_LABEL = 10
"""Columns for the labels on the left."""
_STEPS = {"embed": "embedding", "judge": "judging", "synthesize": "answering"}
"""The timings shown beside the memories' own; the others hold these, or are microseconds."""
_NOTED_S = 0.001
_MOST_FACTS, _MOST_NAMES = 5, 4


def view(answer: Answer, *, explain: bool, expected: str = "") -> RenderableType:
    """Draw an answer: route and why, time, text, best sentences, facts, sources.

    Args:
        answer: see `answer.ask`.
        explain: add the rank in each memory, the path through the graph and the evidence.
        expected: the right answer, where it is known.
    """
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=_LABEL, style="dim")
    grid.add_column(ratio=1, overflow="fold")
    for label, content in _rows(answer, explain, expected):
        grid.add_row(label, content)
    return grid


def milliseconds(seconds: float | None) -> str:
    """Write a duration: "0.4 ms", "12 ms", "4,210 ms"; "–" where it is unknown."""
    if seconds is None:
        return "–"
    value = seconds * 1000
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _rows(answer: Answer, explain: bool, expected: str) -> Iterator[tuple[str, RenderableType]]:
    record = answer.hybridmem
    yield "Route", Text.assemble((record["route"], "bold cyan"), f"  {record['reason']} ({record['source']})")
    yield "Time", _times(record)
    if record["degraded"]:
        yield "Degraded", Text("\n".join(record["degraded"]), "red")
    yield "Answer", _text(answer)
    if expected:
        yield "Expected", Text(expected, "green")
    if explain and record["evidence"]:
        yield "Evidence", _evidence(record["evidence"])
    if answer.sentences:
        yield "Sentences", Text("\n").join(Text(f"{_plain(each.text)} [{each.source}]") for each in answer.sentences)
    if (facts := _facts(record)) and not answer.abstained:
        yield "Facts", Text("\n".join(facts))
    if answer.sources:
        short = Text("\n").join(_short(each) for each in answer.sources)
        yield "Nearest" if answer.abstained else "Sources", _ranks(answer) if explain else short


def _times(record: Mapping[str, Any]) -> Text:
    """The total, then the memories, which ran side by side, then the steps that took a millisecond or more."""
    timings: Mapping[str, float] = record["timings"]
    parts = [
        Text(f"{name} {milliseconds(store['latency_s'])}", "" if store["status"] == "ok" else "red")
        for name, store in record["stores"].items()
    ]
    steps = [(name, timings.get(key, 0.0)) for key, name in _STEPS.items()]
    parts += [Text(f"{name} {milliseconds(seconds)}") for name, seconds in steps if seconds >= _NOTED_S]
    total = Text(milliseconds(timings.get("total")), "bold")
    return Text.assemble(total, ": " if parts else "", Text(" · ").join(parts))


def _text(answer: Answer) -> Text:
    if answer.text is not None:
        name = f"  ({answer.llm})" if answer.llm else ""
        said = "\n".join(line for line in answer.text.splitlines() if line.strip())
        return Text.assemble((said, "yellow" if answer.abstained else "bold"), (name, "dim"))
    if answer.hybridmem["route"] == "parametric":
        return Text("None: this needs no documents, and no language model was asked (--llm names one).")
    return Text("No language model was asked (--llm names one); these are the sources' own words.")


def _evidence(evidence: Mapping[str, Any]) -> Text:
    said = [str(evidence["reason"])]
    if evidence.get("coverage") is not None:
        said.append(f"{evidence['coverage']:.0%} of the question's words are in the sources")
    if evidence.get("missing"):
        said.append(f"missing: {', '.join(evidence['missing'])}")
    return Text("; ".join(said))


def _facts(record: Mapping[str, Any]) -> list[str]:
    """Each statement once, with the numbers of its sources; the first few."""
    numbers: dict[str, list[int]] = {}
    for fact in record["facts"]:
        numbers.setdefault(fact["text"], []).append(fact["source"])
    lines = [f"{text} {''.join(f'[{number}]' for number in found)}" for text, found in numbers.items()]
    more = [f"… and {len(lines) - _MOST_FACTS} more"] if len(lines) > _MOST_FACTS else []
    return lines[:_MOST_FACTS] + more


def _plain(sentence: str) -> str:
    """A sentence on one line; of a table's row the cells."""
    cells = [cell.strip() for cell in sentence.split("|")]
    return " – ".join(filter(None, cells)) if sentence.startswith("|") else " ".join(sentence.split())


def _source(source: Source) -> Text:
    """Number, title and section, else the document."""
    named = " › ".join(filter(None, [source.title, source.section])) or source.document
    return Text(f"[{source.number}] {named}")


def _short(source: Source) -> Text:
    return _source(source).append(f"  {source.document}", "dim")


def _ranks(answer: Answer) -> Table:
    """The sources with their rank in each memory, and under each the path that the graph took to it."""
    memories = list(answer.hybridmem["stores"])
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    table.add_column("rank in each memory:", ratio=1)
    for name in memories:
        table.add_column(name, justify="right")
    numbers = {source.node_id: source.number for source in answer.sources}
    for source in answer.sources:
        ranks = (str(source.stores[name]["rank"]) if name in source.stores else "–" for name in memories)
        below = filter(None, [source.document, _path(source, numbers)])
        table.add_row(_source(source).append(f"\n    {' · '.join(below)}", "dim"), *ranks)
    return table


def _path(source: Source, numbers: Mapping[str, int]) -> str:
    """The graph's path: "via Optane, Intel" from the question, "from [1] via Intel" from a passage; "" without one."""
    if not source.graph_path:
        return ""
    given = source.graph_path["names"]
    via = f"via {', '.join(given[:_MOST_NAMES])}{' …' if len(given) > _MOST_NAMES else ''}"
    start = source.graph_path["from"]
    if start == "question":
        return via
    return f"from {f'[{numbers[start]}]' if start in numbers else source.graph_path.get('title')} {via}"
