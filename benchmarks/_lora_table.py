"""Turns the JSON lines of `lora.py` (standard input) into the tables of benchmarks/README.md.

Knows nothing of how they were measured.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_PLAIN = {"base", "dtype", "row", "ms", "to", "ratio", "goal", "met"}


def row(line: dict[str, Any]) -> str:
    """Write one row."""
    met = "" if "met" not in line else "met" if line["met"] else "**missed**"
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else ""
    baseline = line.get("to", "")
    rest = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in line.items() if key not in _PLAIN)
    cells = [line["row"], line.get("ms", ""), ratio, baseline, line.get("goal", ""), met, rest]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the tables."""
    lines = [json.loads(line) for line in sys.stdin if line.strip()]
    for base, dtype in dict.fromkeys((line["base"], line["dtype"]) for line in lines if "base" in line):
        print(f"\n### {base}, {dtype}\n")
        print("| row | ms | ratio | to | goal | | more |\n|---|---|---|---|---|---|---|")
        for line in lines:
            if (line.get("base"), line.get("dtype")) == (base, dtype):
                print(row(line))
    for line in lines:
        if line["row"] == "about":
            print("\n" + ", ".join(f"{key} {value}" for key, value in line.items() if key != "row"))


if __name__ == "__main__":
    main()
