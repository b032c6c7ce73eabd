"""Turns the JSON lines of `observability.py` (standard input) into the tables of benchmarks/README.md.

Knows nothing of how they were measured; says of each goal whether it was reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def interval(found: Mapping[str, float], digits: int) -> str:
    """Write a mean and its bounds."""
    return f"{found['mean']:,.{digits}f} [{found['low']:,.{digits}f}, {found['high']:,.{digits}f}]"


def goal(what: str, measured: str, line: Line) -> tuple[str, str, str]:
    """Write a goal."""
    return what, measured, "reached" if line["met"] else "**missed**"


def goals(lines: Sequence[Line]) -> Iterable[tuple[str, str, str]]:
    """Go through all lines with a goal."""
    for line in (line for line in lines if "met" in line):
        if line["part"] == "hot":
            measured = f"{line['in_place_us']} in place, {line['replayed_us']} replayed"
            yield goal(f"µs of the asking thread for a routed query in the handler ≤ {line['goal']:g}", measured, line)
        elif line["part"] == "paired":
            measured = interval(line["thread_us"], 0)
            yield goal(f"µs of the asking thread for a routed query in all ≤ {line['goal']:g}", measured, line)
        elif line["part"] == "tokens":
            what = f"µs for a streamed token, {line['unit']} ≤ {line['goal']:g}"
            yield goal(what, interval(line["thread_us"], 2), line)
        else:
            what = f"bytes of a kept trace, {line['query']} query ≤ {line['goal']:g}"
            yield goal(what, f"{line['mean']}", line)


def paired(lines: Sequence[Line]) -> None:
    """What observing adds to a query."""
    print("\n### What observing adds to a routed query, µs of CPU\n")
    head = ["", "asking thread [95 %]", "least", "whole process [95 %]", "least", "unobserved"]
    table(
        head,
        (
            (
                line["arm"],
                interval(line["thread_us"], 0),
                f"{line['thread_us']['least']:,.0f}",
                interval(line["process_us"], 0),
                f"{line['process_us']['least']:,.0f}",
                f"{line['base_us']:,.0f}",
            )
            for line in lines
        ),
    )


def hot(lines: Sequence[Line]) -> None:
    """What our handler takes of the asking thread."""
    print("\n### In our handler, µs of the asking thread\n")
    head = ["query", "spans", "events", "in place", "replayed", "least", "a pair of span calls", "an event"]
    keys = ("query", "spans", "events", "in_place_us", "replayed_us", "least_us", "span_pair_us", "event_us")
    table(head, ([line.get(key, "") for key in keys] for line in lines))


def tokens(lines: Sequence[Line]) -> None:
    """What observing adds to a token."""
    print("\n### What observing adds to a streamed token, µs of the asking thread [95 %]; least\n")
    units = list(dict.fromkeys(line["unit"] for line in lines))
    found = {(line["arm"], line["unit"]): line for line in lines}
    arms = dict.fromkeys(line["arm"] for line in lines)

    def cell(line: Line) -> str:
        return f"{interval(line['thread_us'], 2)}; {line['thread_us']['least']:.2f}"

    table(["", *units], ([arm, *(cell(found[arm, unit]) for unit in units)] for arm in arms))
    alone = ", ".join(f"{unit} {found[next(iter(arms)), unit]['base_us']}" for unit in units)
    print(f"\nA token alone takes {alone}.")


def memory(lines: Sequence[Line]) -> None:
    """What stays allocated."""
    print("\n### What stays in memory\n")
    table(["", "bytes for each routed query"], ((line["arm"], f"{line['bytes_per_query']:,}") for line in lines))


def counts(lines: Sequence[Line]) -> None:
    """Whose tokens were counted right."""
    print("\n### Queries of 50 that got exactly their tokens; the sum of all, to the true one\n")
    arms = list(dict.fromkeys(line["arm"] for line in lines))
    found = {(line["mode"], line["arm"]): line for line in lines}

    def cell(line: Line) -> str:
        exact = "–" if line["exact"] is None else line["exact"]
        return f"{exact}; {line['counted'] / line['truth']:.2f}"

    modes = dict.fromkeys(line["mode"] for line in lines)
    table(["", *arms], ([mode, *(cell(found[mode, arm]) for arm in arms)] for mode in modes))


def budget(lines: Sequence[Line]) -> None:
    """How far a limit was overspent."""
    print(f"\n### Fifty queries under a limit of {lines[0]['limit']:,} tokens\n")
    head = ["", "", "tokens spent", "of the limit", "calls made", "answers", "“Empty Response”", "errors to the caller"]
    keys = ("calls", "answers", "empty", "refused")
    table(
        head,
        (
            (
                line["mode"],
                line["arm"],
                f"{line['spent']:,}",
                f"{line['spent'] / line['limit']:.0%}",
                *(line[key] for key in keys),
            )
            for line in lines
        ),
    )


PARTS: dict[str, Callable[[Sequence[Line]], None]] = {
    "paired": paired,
    "hot": hot,
    "tokens": tokens,
    "memory": memory,
    "counts": counts,
    "budget": budget,
}


def main() -> None:
    """Print the tables."""
    lines = [json.loads(line) for line in sys.stdin if line.strip()]
    print("\n### Goals\n")
    table(["goal", "measured", ""], goals(lines))
    for name, part in PARTS.items():
        found = [line for line in lines if line["part"] == name]
        if found:
            part(found)
    about = [line for line in lines if line["part"] == "about"]
    known = ", ".join(f"{key} {value}" for key, value in about[0].items() if key not in ("part", "load"))
    print(f"\n{known}; load at the start and at the end {' and '.join(str(line['load']) for line in about)}")


if __name__ == "__main__":
    main()
