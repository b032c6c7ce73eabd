"""Turns the JSON lines of `methods.py` into the tables of benchmarks/README.md; knows not how they came about.

python benchmarks/method_arms/table.py < methods.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
QUALITY = ("sentiment", "category", "resolution", "mean of the fields", "valid JSON", "in the form")
TOGETHER = "measurable skills together"


def tables(lines: Sequence[Line]) -> str:
    """Give all tables as Markdown."""
    parts = [
        "### What a method takes",
        _costs(lines),
        *_failed(lines),
        "### What it learns: share of held-back tickets, %",
        _learned(lines),
        "### What it forgets: points against the base, probe by probe",
        _forgotten(lines),
        "### How answers were got",
        "\n".join(_paths(lines)),
        "\n".join(_about(lines)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _of(lines: Sequence[Line], part: str) -> list[Line]:
    return [line for line in lines if line["part"] == part]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if rows else ""


def _costs(lines: Sequence[Line]) -> str:
    head = (
        "method (seed)",
        "trainable",
        "share, %",
        "steps",
        "loss",
        "peak MB",
        "foretold",
        "wall s",
        "foretold",
        "CPU s",
        "load",
        "MB on disk",
    )
    return _grid(head, [_cost(line) for line in _of(lines, "method") if "failed" not in line])


def _cost(line: Line) -> tuple[str, ...]:
    gpu = "" if line["gpu_peak_mb"] is None else f" + {line['gpu_peak_mb']:,} on the GPU"
    return (
        f"{line['arm']} ({line['seed']})",
        f"{line['trainable']:,}",
        f"{100 * line['trainable'] / line['parameters']:.2f}",
        str(line["steps"]),
        f"{line['first_loss']:.2f} to {line['last_loss']:.2f}",
        f"{line['peak_mb']:,.0f}{gpu}",
        f"{line['estimated_mb']:,} ({_ratio(line['estimated_mb'], line['peak_mb'])})",
        f"{line['seconds']:.0f}",
        f"{line['estimated_s']:.0f} ({_ratio(line['estimated_s'], line['seconds'])})",
        f"{line['cpu_s']:.0f}",
        f"{line['load']:.1f}",
        f"{line['weights_mb']:.1f}",
    )


def _ratio(foretold: float, measured: float) -> str:
    return f"{foretold / measured:.2f} x"


def _failed(lines: Sequence[Line]) -> Iterator[str]:
    for line in _of(lines, "method"):
        if "failed" in line:
            yield f"- {line['arm']}, seed {line['seed']}, was not measured: {line['failed']}"


def _learned(lines: Sequence[Line]) -> str:
    head = ("method", *QUALITY, "fields over base, points", "over plain LoRA, points")
    base = [("base", *(_share(line[name]) for name in QUALITY), "", "") for line in _of(lines, "base")]
    rows = [
        (
            f"{line['arm']}{_seeds(line)}",
            *(_share(line[name]) for name in QUALITY),
            _points(line["gain"]),
            _points(line.get("over")),
        )
        for line in _of(lines, "arm")
    ]
    return _grid(head, [*base, *rows])


def _seeds(line: Line) -> str:
    return f" ({line['seeds']} seeds)" if line["seeds"] > 1 else ""


def _forgotten(lines: Sequence[Line]) -> str:
    base = next(iter(_of(lines, "base")), None)
    if base is None:
        return ""
    skills = base["skills"]
    own = [
        f"{100 * each['share']:.0f}{'' if each['measurable'] else ': not measurable on this base'}"
        for each in skills.values()
    ]
    rows = [
        (f"{line['arm']}{_seeds(line)}", _points(line[TOGETHER]), *(_skill(line["skills"][name]) for name in skills))
        for line in _of(lines, "arm")
    ]
    return _grid(("method", TOGETHER, *skills), [("base, % right", "", *own), *rows])


def _skill(found: Mapping[str, Any]) -> str:
    """Points lost or won; where the base has not the skill, the share right now."""
    if not found["measurable"]:
        return f"({100 * found['after']:.0f} % right)"
    change = _points(found["change"])
    return f"**{change}**" if found["verdict"] == "forgotten" else change


def _share(interval: Mapping[str, float]) -> str:
    return f"{100 * interval['mean']:.0f} [{100 * interval['low']:.0f}, {100 * interval['high']:.0f}]"


def _points(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval['mean']:+.0f} [{100 * interval['low']:+.0f}, {100 * interval['high']:+.0f}]"


def _paths(lines: Sequence[Line]) -> Iterator[str]:
    for line in (*_of(lines, "base"), *_of(lines, "method")):
        if "failed" not in line:
            name = f"{line['arm']} ({line['seed']})" if line["part"] == "method" else "base"
            yield f"- {name}: {line['answered_by']}; {line['asking_s']:.0f} s"


def _about(lines: Sequence[Line]) -> Iterator[str]:
    for line in _of(lines, "about"):
        yield "- about: " + ", ".join(f"{name} {value}" for name, value in line.items() if name != "part")


def main() -> None:
    """Print the tables."""
    sys.stdout.write(tables([json.loads(line) for line in sys.stdin if line.strip()]))


if __name__ == "__main__":
    main()
