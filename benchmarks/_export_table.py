"""Turns the JSON lines of `export.py` (standard input) into the tables of benchmarks/README.md.

Knows nothing of how they were measured; says of each goal whether it was reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, if it has rows."""
    if found := list(rows):
        print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for row in found:
            print(f"| {' | '.join(map(str, row))} |")


def goal(line: Line) -> tuple[str, str, str]:
    """Write a goal."""
    verdict = "reached" if line["met"] else "**missed**"
    if line["part"] == "speed":
        found = f"{line['records_a_second']:,}; {round(1e6 / line['least']):,} in the quickest round"
        return f"records a second and core, {line['arm']} ≥ {line['goal']:,.0f}", found, verdict
    return f"most memory at {line['records']:,} records to that before ≤ {line['goal']:g}", _growth(line), verdict


def speed(line: Line) -> list[str]:
    """Write an arm."""
    shares = [f"{100 * line[name]:.0f} %" if name in line else "" for name in ("damaged", "abstained")]
    middle = f"{line['us']:,.0f} [{line['low']:,.0f}, {line['high']:,.0f}]"
    speeds = [f"{line['records_a_second']:,}", middle, f"{line['least']:,.0f}", f"{line['ratio']:.1f}"]
    size = f"{line['record_bytes']:,}" if "record_bytes" in line else ""
    return [line["arm"], *speeds, *shares, size]


def operator(line: Line) -> list[str]:
    """Write an operator."""
    of = "a list" if line["scope"] == "scene" else "a passage"
    return [line["operator"], line["kind"], of, f"{line['us']:,.0f}", f"{line['least']:,.0f}", line["changes"]]


def _growth(line: Line) -> str:
    return f"{line['peak_mb']:,.0f} MB"


def main() -> None:
    """Print the tables."""
    lines = [json.loads(line) for line in sys.stdin if line.strip()]
    parts = {name: [line for line in lines if line["part"] == name] for name in {line["part"] for line in lines}}
    table("Goals", ["goal", "measured", ""], map(goal, (line for line in lines if "met" in line)))
    head = ["", "records/s", "µs a record [quartiles]", "least", "to the RAFT loop"]
    more = ["passages damaged", "abstain", "bytes of a record"]
    table("A record from drafts on disk", [*head, *more], map(speed, parts.get("speed", [])))
    rows = [[line["arm"], f"{line['us']:,.0f}", f"{line['least']:,.0f}"] for line in parts.get("whole", [])]
    count = max((line["records"] for line in parts.get("whole", [])), default=0)
    table(f"An export of {count:,} records, every step of it", ["", "µs a record", "least"], rows)
    found = [[f"{line['records']:,}", line["before_mb"], line["peak_mb"]] for line in parts.get("memory", [])]
    table("Resident memory at its highest, MB", ["records", "before", "at the end"], found)
    slowest = sorted(parts.get("operator", []), key=lambda line: line["us"])
    table("Operators", ["operator", "kind", "changes", "µs", "least", "measured on"], map(operator, slowest))
    about = parts.get("about", [])
    if about:
        told = ", ".join(f"{key} {value}" for key, value in about[0].items() if key not in ("part", "load"))
        print(f"\n{told}; load at the start and at the end {' and '.join(str(line['load']) for line in about)}")


if __name__ == "__main__":
    main()
