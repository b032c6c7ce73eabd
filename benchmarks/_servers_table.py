"""Turns the JSON lines of `servers.py` (standard input) into the tables of benchmarks/README.md.

Knows nothing of how they were measured; says of each goal whether it was reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
DEFAULT, QUICK = "ours, hops=2", "ours, hops=1"
GAIN, SHARE, STORE_MS = 10.0, 0.5, 35.0
"""The goals: points of recall@5 over each; p95 to that of the fastest of the others; milliseconds in the store."""


def interval(values: Mapping[str, float]) -> str:
    """Write a mean and its bounds."""
    return f"{values['mean']:.1f} [{values['low']:.1f}, {values['high']:.1f}]"


def pair(values: Mapping[str, float]) -> str:
    """Write p50 and p95."""
    return f"{values['p50']:.0f} / {values['p95']:.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


class Run:
    """The lines of one run."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.arms = [line["arm"] for line in lines if "recall@5" in line]
        self.theirs = [arm for arm in self.arms if not arm.startswith("ours")]

    def of(self, arm: str, *keys: str, **wanted: object) -> Line:
        """Find an arm's line that has these keys and values."""
        return next(
            line
            for line in self.lines
            if line.get("arm") == arm
            and all(key in line for key in keys)
            and all(line.get(k) == v for k, v in wanted.items())
        )

    def all(self, key: str) -> list[Line]:
        """List the lines that have a key."""
        return [line for line in self.lines if key in line]


def found(run: Run) -> None:
    """What each finds."""
    print("\n### What is found\n")
    table(
        ["", "R@5 [95 %]", f"{DEFAULT}: more, paired", f"{QUICK}: more, paired", "set-up"],
        [
            (
                arm,
                interval(line["recall@5"]),
                *(interval(line["gain"][name]) if arm != name else "" for name in (DEFAULT, QUICK)),
                ", ".join(f"{key} {value}" for key, value in line["settings"].items()),
            )
            for arm in run.arms
            for line in [run.of(arm, "recall@5")]
        ],
    )


def times(run: Run) -> None:
    """What a question takes."""
    print("\n### What a question takes, milliseconds p50 / p95\n")
    table(
        [
            "",
            "vector given",
            "encoded, too",
            "our process's CPU",
            "round trips",
            "16 at once: questions/s",
            "p50 / p95",
        ],
        [
            (
                arm,
                pair(run.of(arm, "cpu_ms", encoding="excluded")["wall_ms"]),
                pair(run.of(arm, "cpu_ms", encoding="included")["wall_ms"]),
                pair(run.of(arm, "cpu_ms", encoding="excluded")["cpu_ms"]),
                run.of(arm, "round_trips")["round_trips"],
                " / ".join(str(line["questions_per_s"]) for line in crowd),
                ", ".join(pair(line["wall_ms"]) for line in crowd),
            )
            for arm in run.arms
            for crowd in [[run.of(arm, "clients", encoding=which) for which in ("excluded", "included")]]
        ],
    )


def sizes(run: Run) -> None:
    """What a link costs."""
    stores = run.all("store")
    if stores:
        print("\n### Size\n")
        keys = ("passages", "names", "links", "facts", "bytes_per_passage", "bytes_per_link")
        table(
            ["", *(key.replace("_", " ") for key in keys)],
            [(line["store"], *(f"{line.get(key, 0):,}" for key in keys)) for line in stores],
        )
        print()
        table(
            ["our store's part of a question", "links", "statements", "p50 / p95 ms"],
            [(line["store_part"], f"{line['links']:,}", line["reads"], pair(line["wall_ms"])) for line in
             run.all("store_part")],
        )  # fmt: skip


def goals(run: Run) -> None:
    """Whether the goals were reached."""
    print("\n### Goals\n")
    gains = {arm: run.of(arm, "recall@5")["gain"][DEFAULT]["mean"] for arm in run.theirs}
    rows: list[tuple[object, ...]] = [
        (f"recall@5 at least +{GAIN:g} over each", f"least +{min(gains.values()):.1f}", min(gains.values()) >= GAIN)
    ]
    for which in ("excluded", "included"):
        p95 = {arm: run.of(arm, "cpu_ms", encoding=which)["wall_ms"]["p95"] for arm in (*run.theirs, DEFAULT, QUICK)}
        fastest = min(run.theirs, key=lambda arm: p95[arm])
        ratios = {name: p95[name] / p95[fastest] for name in (DEFAULT, QUICK)}
        said = ", ".join(f"{name} {ratio:.1f} times" for name, ratio in ratios.items())
        goal = f"p95 at most {SHARE:g} of the fastest of the others (encoding {which})"
        rows.append((goal, f"{said} that of {fastest}", ratios[DEFAULT] <= SHARE))
    for line in run.all("store_part"):
        p95_ms = line["wall_ms"]["p95"]
        goal = f"store's part at most {STORE_MS:g} ms p95 at {line['links']:,} links, {line['store_part']}"
        rows.append((goal, f"{p95_ms} ms", p95_ms <= STORE_MS))
    table(["goal", "measured", ""], [(*row[:2], "reached" if row[2] else "**missed**") for row in rows])


def main() -> None:
    """Print the tables."""
    run = Run([json.loads(line) for line in sys.stdin if line.strip()])
    for part in (goals, found, times, sizes):
        part(run)
    about = [line["about"] for line in run.all("about")]
    loads = " and ".join(str(one["load"]) for one in about)
    known = ", ".join(f"{key} {value}" for key, value in about[0].items() if key != "load")
    print(f"\n{known}; load at the start and at the end {loads}")


if __name__ == "__main__":
    main()
