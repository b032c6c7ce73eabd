"""What a row of each format must be for its readers to take it, by their documents; pure, knows no trainer.

- ``prompt-completion``, ``messages``, ``completion``: TRL, "Dataset formats and types".
- ``alpaca``, ``sharegpt``: LLaMA-Factory, data/README.md: an instruction and an output; turns of ``human`` and ``gpt``
  in alternation, a system turn first at most.
- ``openai``: OpenAI, supervised fine-tuning: ``messages`` and nothing else, 10 examples or more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError

MINIMUM = {"openai": 10}
"""Rows that a file needs at least; formats that are not in here need one."""

Problems = list[str]
Check = Callable[[str, Any], Problems]


def check_row(row: Any, format: str) -> list[str]:
    """Tell what is wrong with a row.

    Args:
        row: as `json.loads` gives it.
        format: one of `formats.FORMATS`.

    Returns:
        a sentence for each problem, which names the column; empty for a good row.

    Raises:
        ConfigurationError: an unknown format.
    """
    if format not in _COLUMNS:
        raise ConfigurationError(f"no format {format!r:.40}; there are {', '.join(_COLUMNS)}")
    if not isinstance(row, Mapping):
        return [f"a row is a JSON object, not {type(row).__name__}"]
    columns = _COLUMNS[format]
    problems = [f"{name}: is missing" for name in columns if name not in row]
    problems += [f"{name!s:.40}: {format} knows no such column" for name in row if name not in columns]
    for name, check in columns.items():
        if name in row:
            problems += check(name, row[name])
    return problems


def check_count(rows: int, format: str) -> list[str]:
    """Tell whether a file has rows enough.

    Args:
        rows: how many it has.
        format: one of `formats.FORMATS`.
    """
    least = MINIMUM.get(format, 1)
    return [] if rows >= least else [f"{rows} rows: {format} needs {least} or more"]


def _text(name: str, value: Any) -> Problems:
    if not isinstance(value, str):
        return [f"{name}: a text is expected, not {type(value).__name__}"]
    if not value.strip():
        return [f"{name}: is blank"]
    return _any_text(name, value)


def _any_text(name: str, value: Any) -> Problems:
    if not isinstance(value, str):
        return [f"{name}: a text is expected, not {type(value).__name__}"]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [f"{name}: has a lone surrogate, which is no UTF-8"]
    return []


def _json_text(name: str, value: Any) -> Problems:
    problems = _text(name, value)
    if problems:
        return problems
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    return [] if isinstance(found, dict) else [f"{name}: a JSON object in a text is expected"]


def _turns(
    last: str,
    key: str = "role",
    text: str = "content",
    asks: str = "user",
    answers: str = "assistant",
    weighs: bool = False,
) -> Check:
    """Make a check of turns: system at most first, then questions and answers in alternation."""

    def check(name: str, value: Any) -> Problems:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return [f"{name}: a list of turns is expected"]
        problems: Problems = []
        for number, turn in enumerate(value, start=1):
            problems += _turn(f"{name}, turn {number}", turn, key, text, answers if weighs else None)
        if problems:
            return problems
        roles = [turn[key] for turn in value]
        asked = roles[1:] if roles[0] == "system" else roles
        expected = [(asks, answers)[number % 2] for number in range(len(asked))]
        if asked != expected or not asked:
            return [f"{name}: {asks} and {answers} take turns, after one system turn at most; found {', '.join(roles)}"]
        return [] if asked[-1] == last else [f"{name}: ends with {asked[-1]}, not {last}"]

    return check


def _turn(place: str, turn: Any, key: str, text: str, weighed: str | None) -> Problems:
    if not isinstance(turn, Mapping) or not {key, text} <= turn.keys():
        return [f"{place}: an object with {key} and {text} is expected"]
    known = {key, text, "weight"} if weighed is not None and turn[key] == weighed else {key, text}
    problems = [f"{place}: knows no {name!s:.40}" for name in turn if name not in known]
    if "weight" in known and turn.get("weight", 1) not in (0, 1):
        problems.append(f"{place}: the weight is 0 or 1")
    if not isinstance(turn[key], str):
        return [*problems, f"{place}: the {key} is a text"]
    return problems + _text(f"{place}, {text}", turn[text])


def _completion_turn(name: str, value: Any) -> Problems:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 1:
        return [f"{name}: one turn is expected"]
    problems = _turn(f"{name}, turn 1", value[0], "role", "content", None)
    if not problems and value[0]["role"] != "assistant":
        return [f"{name}: the turn is the assistant's"]
    return problems


_BESIDE: Mapping[str, Check] = {"id": _text, "provenance": _json_text}
_MESSAGES = _turns("assistant")
_COLUMNS: Mapping[str, Mapping[str, Check]] = {
    "prompt-completion": {**_BESIDE, "prompt": _turns("user"), "completion": _completion_turn},
    "messages": {**_BESIDE, "messages": _MESSAGES},
    "completion": {**_BESIDE, "prompt": _text, "completion": _text},
    "alpaca": {**_BESIDE, "instruction": _text, "input": _any_text, "output": _text, "system": _any_text},
    "sharegpt": {**_BESIDE, "conversations": _turns("gpt", "from", "value", "human", "gpt")},
    "openai": {"messages": _turns("assistant", weighs=True)},
}
