"""A record as a row of each format that trainers read; pure, knows no file and no trainer.

Every format tells the same three texts: system prompt, prompt, target. ``prompt-completion`` is the default: trainers
put the loss on the completion without being told, and nothing in it depends on a chat template.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.layouts import prompt
from llama_index_hybridmem.export.record import Record, encodable
from llama_index_hybridmem.export.targets import target
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.scene import Passage

_ENCODER = json.JSONEncoder(check_circular=False, separators=(",", ":"))

RESPONSE = "\n\n### Response:\n"
"""Ends the prompt of ``completion`` rows. No line of a prompt before it begins with the same words."""

Prints = Mapping[str, bytes]
"""A row's columns, each as a hash of 8 bytes."""

_RESPONSE_LINE = re.compile(r"^(?=### Response:)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Told:
    """The texts of a row, whatever its format; each can be encoded as UTF-8.

    Attributes:
        system: the system prompt; None without one.
        user: passages and question.
        assistant: what the model shall say.
    """

    system: str | None
    user: str
    assistant: str


def tell(record: Record, wording: Wording) -> Told:
    """Put a record into words, once for all formats.

    Raises:
        ConfigurationError: see `targets.target`.
    """
    system = wording.system_prompt()
    return Told(
        None if system is None else encodable(system),
        encodable(prompt(record.question, record.noisy, wording)),
        encodable(target(record, wording)),
    )


def row(record: Record, format: str, wording: Wording, told: Told | None = None) -> dict[str, Any]:
    """Give a record's row.

    Args:
        record: with its damage.
        format: one of `FORMATS`.
        wording: its words.
        told: what `tell` gave for the same record and wording, when several formats are written.

    Returns:
        plain JSON types, the same columns and types for every record. All but ``openai`` carry ``id`` and, as JSON
        text, ``provenance``.

    Raises:
        ConfigurationError: an unknown format, or see `tell`.
    """
    if format not in _ROWS:
        raise ConfigurationError(f"no format {format!r:.40}; there are {', '.join(FORMATS)}")
    columns = _ROWS[format](told or tell(record, wording))
    if format == "openai":
        return columns
    source = _ENCODER.encode(provenance(record))
    return {"id": encodable(record.id), **columns, "provenance": source}


def prints(row: Mapping[str, Any]) -> Prints:
    """Give what tells a row from another one without keeping it."""
    texts = ((name, json.dumps(value, sort_keys=True).encode("ascii")) for name, value in row.items())
    return {name: hashlib.blake2b(text, digest_size=8).digest() for name, text in texts}


def provenance(record: Record) -> dict[str, Any]:
    """Give where a record comes from and what was done to it, without texts: plain JSON types."""
    return {
        "id": record.id,
        "answerable": record.answerable,
        "origin": record.origin,
        "domain": record.domain,
        "split": record.split,
        "seed": record.seed,
        "profile": record.profile,
        "gold": sorted(record.gold),
        "quoted": list(dict.fromkeys(each.passage for each in record.quotes)),
        "passages": [_passage(each) for each in record.noisy],
        "removed": [_passage(each) for each in record.removed],
        "versions": dict(record.versions),
    }


def provenance_row(record: Record) -> dict[str, Any]:
    """Give the row of the side-car of formats that allow no column of their own: ``id`` and ``provenance``.

    Line n of the side-car is about line n of the file beside it.
    """
    return {"id": encodable(record.id), "provenance": _ENCODER.encode(provenance(record))}


def _passage(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "source": passage.source, "damage": [each.to_json() for each in passage.damage]}


def _turns(told: Told, answered: bool) -> list[dict[str, str]]:
    turns = [] if told.system is None else [{"role": "system", "content": told.system}]
    turns.append({"role": "user", "content": told.user})
    return [*turns, *_answer(told)] if answered else turns


def _answer(told: Told) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": told.assistant}]


def _prompt_completion(told: Told) -> dict[str, Any]:
    return {"prompt": _turns(told, answered=False), "completion": _answer(told)}


def _messages(told: Told) -> dict[str, Any]:
    return {"messages": _turns(told, answered=True)}


def _completion(told: Told) -> dict[str, Any]:
    text = told.user if told.system is None else f"{told.system}\n\n{told.user}"
    return {"prompt": _RESPONSE_LINE.sub(r"\\", text) + RESPONSE, "completion": told.assistant}


def _alpaca(told: Told) -> dict[str, Any]:
    # All in the instruction: trainers join it with the input in different ways, and the prompt shall be the same.
    return {"instruction": told.user, "input": "", "output": told.assistant, "system": told.system or ""}


_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


def _sharegpt(told: Told) -> dict[str, Any]:
    turns = _turns(told, answered=True)
    return {"conversations": [{"from": _SHAREGPT[each["role"]], "value": each["content"]} for each in turns]}


_ROWS: Mapping[str, Callable[[Told], dict[str, Any]]] = {
    "prompt-completion": _prompt_completion,
    "messages": _messages,
    "completion": _completion,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "openai": _messages,
}

FORMATS: tuple[str, ...] = tuple(_ROWS)
"""Names of the formats, the default first."""
