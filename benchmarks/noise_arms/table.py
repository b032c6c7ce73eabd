"""Turns the JSON lines of `noise_training.py` into the tables of benchmarks/README.md; knows not how they came about.

python benchmarks/noise_arms/table.py < noise_training.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
ALL = "all questions"


def tables(lines: Sequence[Line]) -> str:
    """Give all tables as Markdown."""
    parts = [_goals(lines)]
    for source in dict.fromkeys(line["source"] for line in lines if line["part"] == "group"):
        parts += [f"### {source.capitalize() if source == ALL else source}", _groups(lines, source)]
        parts.append(_differences(lines, source))
    parts += [
        "### Each kind, all questions",
        _kinds(lines),
        "### Abstention, both ways, and false values given",
        _ways(lines),
    ]
    parts.append("\n".join(_about(lines)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _of(lines: Sequence[Line], part: str, **fields: Any) -> list[Line]:
    return [
        line for line in lines if line["part"] == part and all(line[name] == value for name, value in fields.items())
    ]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if rows else ""


def _goals(lines: Sequence[Line]) -> str:
    head = ("goal, in points", "measured [95 %]", "seeds", "")
    rows = [
        (
            f"{line['what']}{', with copy constraint' if line['copies'] else ''}",
            _signed(line),
            _seeds(line["seeds"]),
            "reached" if line["met"] else "**missed**",
        )
        for line in _of(lines, "goal")
    ]
    return _grid(head, rows)


def _groups(lines: Sequence[Line], source: str) -> str:
    found = _of(lines, "group", source=source)
    groups = list(dict.fromkeys(line["group"] for line in found))
    rows = []
    for arm in dict.fromkeys(line["arm"] for line in found):
        cells = {line["group"]: line for line in found if line["arm"] == arm}
        rows.append((arm, *(_cell(cells.get(group)) for group in groups)))
    return _grid(("share right, % [seeds]", *groups), rows)


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    spread = f" [{_seeds(line['seeds'], signed=False)}]" if len(line["seeds"]) > 1 else ""
    return f"{100 * line['mean']:.1f}{spread}"


def _differences(lines: Sequence[Line], source: str) -> str:
    found = _of(lines, "difference", source=source)
    groups = list(dict.fromkeys(line["group"] for line in found))
    rows = []
    for pair in dict.fromkeys(line["pair"] for line in found):
        cells = {line["group"]: line for line in found if line["pair"] == pair}
        rows.append((pair, *(_signed(cells[group]) if group in cells else "" for group in groups)))
    return _grid(("points, paired [95 %]", *groups), rows)


def _signed(line: Line) -> str:
    return f"{100 * line['mean']:+.1f} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"


def _seeds(values: Sequence[float], *, signed: bool = True) -> str:
    return ", ".join(f"{100 * each:{'+' if signed else ''}.1f}" for each in values)


def _kinds(lines: Sequence[Line]) -> str:
    found = _of(lines, "kind", source=ALL)
    arms = list(dict.fromkeys(line["arm"] for line in found))
    rows = []
    for trial in dict.fromkeys(line["trial"] for line in found):
        cells = {line["arm"]: line for line in found if line["trial"] == trial}
        first = next(iter(cells.values()))
        name = f"{trial}{'' if first['seen'] else ' (not seen)'}"
        rows.append((name, str(first["n"]), *(f"{100 * cells[arm]['right']:.1f}" for arm in arms)))
    return _grid(("share right, %", "questions", *arms), rows)


def _ways(lines: Sequence[Line]) -> str:
    head = ("arm", "F1 where answered", "contained", "abstained, rightly", "abstained, wrongly", "false value given")
    names = ("f1", "contained", "abstained", "falsely_abstained", "lured")
    return _grid(head, [(line["arm"], *(_percent(line[name]) for name in names)) for line in _of(lines, "ways")])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _about(lines: Sequence[Line]) -> Iterator[str]:
    for part in ("about", "prompt", "training", "speed"):
        for line in _of(lines, part):
            yield f"- {part}: " + ", ".join(f"{name} {value}" for name, value in line.items() if name != "part")


def main() -> None:
    """Print the tables."""
    sys.stdout.write(tables([json.loads(line) for line in sys.stdin if line.strip()]))


if __name__ == "__main__":
    main()
