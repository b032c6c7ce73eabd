"""Which texts and numbers belong to train, dev and test, and draws without repeats; pure, knows no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar, get_args

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example, Message

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
Kind = TypeVar("Kind")

_ATTEMPTS = 500
_CYCLE: dict[int, Part] = {3: "test", 5: "dev"}  # a number's remainder by 7; all others are for training


@dataclass(frozen=True)
class Template:
    """A text with places to fill.

    Attributes:
        id: its group and its place there: the same text has the same id in every part.
        text: for ``str.format``.
    """

    id: str
    text: str


def dealt(items: Sequence[Kind], part: Part) -> Sequence[Kind]:
    """Give a part its share of a list: the last quarter (rounded up) is test, the sixth before it dev.

    Args:
        items: at least three, so that every part gets one.
        part: whose share.

    Raises:
        ConfigurationError: there is no such part, or nothing is left for one.
    """
    test = len(items) - -(-len(items) // 4)
    dev = test - max(1, len(items) // 6)
    if part not in PARTS or dev < 1:
        raise ConfigurationError(f"part {part!r} of {len(items)} texts: take one of {', '.join(PARTS)}, and 3 texts")
    return {"train": items[:dev], "dev": items[dev:test], "test": items[test:]}[part]


def templates(group: str, texts: Sequence[str], part: Part) -> Sequence[Template]:
    """Give a part its share of a group's texts, each with its id."""
    return dealt([Template(f"{group}/{place}", text) for place, text in enumerate(texts)], part)


def number(rng: Random, low: int, high: int, part: Part) -> int:
    """Draw a whole number that belongs to a part: two parts never show the same one.

    Args:
        rng: the row's own.
        low: least value, included.
        high: greatest value, included; seven apart from ``low`` or more, so that each part has one.
        part: who may show it.

    Raises:
        ConfigurationError: the range has no number of this part.
    """
    span = high + 1 - low
    start = rng.randrange(span)
    for step in range(min(span, 14)):  # up to six to the end of the range, and seven from its beginning
        found = low + (start + step) % span
        if _CYCLE.get(found % 7, "train") == part:
            return found
    raise ConfigurationError(f"part={part!r}, low={low}, high={high}: no number is this part's; take a wider range")


def distinct(make: Callable[[Random, int], Kind], key: Callable[[Kind], object], count: int, seed: str) -> list[Kind]:
    """Make rows until there are enough of which no two have the same key.

    Args:
        make: from the row's own generator and its place.
        key: what must differ.
        count: rows wanted.
        seed: names the set, part and seed; each row draws from a generator of its own.

    Raises:
        ConfigurationError: no new row came in 500 attempts.
    """
    made: list[Kind] = []
    seen: set[object] = set()
    for place in range(count):
        for attempt in range(_ATTEMPTS):
            row = make(Random(f"{seed}:{place}:{attempt}"), place)
            if key(row) not in seen:
                break
        else:
            raise ConfigurationError(f"count={count}: only {place} different rows can be made of {seed}; ask for fewer")
        seen.add(key(row))
        made.append(row)
    return made


def turns(system: str, user: str) -> tuple[Message, ...]:
    """Give the prompt of one question."""
    return ({"role": "system", "content": system}, {"role": "user", "content": user})


def asked(example: Example) -> str:
    """Give all that the prompt says: two rows with the same are copies."""
    return "\n".join(turn["content"] for turn in example.prompt)
