"""Turns the JSON lines of `retrieval.py` (standard input) into the tables of benchmarks/README.md.

Knows nothing of how they were measured.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def cell(interval: dict[str, float] | None, *, bounds: bool = False) -> str:
    """Write an interval, with its bounds where they matter."""
    if interval is None:
        return ""
    mean = f"{interval['mean']:.1f}"
    return f"{mean} [{interval['low']:.1f}, {interval['high']:.1f}]" if bounds else mean


def row(line: dict[str, Any]) -> str:
    """Write one arm."""
    cells = [
        line["arm"],
        cell(line["recall@2"]),
        cell(line["recall@5"], bounds=True),
        cell(line["recall@10"]),
        cell(line["all@5"]),
        cell(line["gain_over_dense@5"], bounds=True),
        f"{line['cpu_ms']['p50']:.0f} / {line['cpu_ms']['p95']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    lines = [json.loads(line) for line in sys.stdin if line.strip()]
    costs = [line for line in lines if line["arm"] == "index"]
    about = [line for line in lines if line["arm"] == "about"]
    for name in dict.fromkeys(line["set"] for line in lines if "recall@5" in line):
        print(f"\n### {name}\n")
        print("| arm | R@2 | R@5 [95 %] | R@10 | all@5 | R@5 over dense, paired | CPU ms p50 / p95 |")
        print("|---|---|---|---|---|---|---|")
        for line in lines:
            if line.get("set") == name and "recall@5" in line:
                print(row(line))
    print("\n### Index\n\n| set | passages | CPU s | CPU ms a passage | bytes a passage |\n|---|---|---|---|---|")
    for cost in costs:
        numbers = (cost[key] for key in ("passages", "cpu_s", "cpu_ms_per_passage", "bytes_per_passage"))
        print(f"| {cost['set']} | {' | '.join(f'{number:,}' for number in numbers)} |")
    for line in about:
        print("\n" + ", ".join(f"{key} {value}" for key, value in line.items() if key != "arm"))


if __name__ == "__main__":
    main()
