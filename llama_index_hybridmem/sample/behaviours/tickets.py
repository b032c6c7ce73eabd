"""Support tickets: a customer's message, and the one line of JSON that a model shall make of it; pure.

Mood and subject come from separate texts, and most messages speak of a second subject besides, so that neither is told
by single words alone. The resolution follows from `policy.POLICY`, which the prompt does not show: it is learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours import ticket_frames as frames
from llama_index_hybridmem.sample.behaviours.parts import (
    Part,
    Template,
    dealt,
    distinct,
    number,
    templates,
    turns,
)
from llama_index_hybridmem.sample.behaviours.policy import CATEGORIES, POLICY, SENTIMENTS, resolve
from llama_index_hybridmem.sample.behaviours.shop import BOARDS, DRIVES, KITS, NAMES, SHOP, TOWNS
from llama_index_hybridmem.sample.behaviours.styles import STYLES
from llama_index_hybridmem.sample.behaviours.ticket_cores import CORES

SYSTEM = (
    f"Sort the message to {SHOP}. Reply with one line of JSON: sentiment ({', '.join(SENTIMENTS)}), category "
    f"({', '.join(CATEGORIES)}), resolution (one sentence by our policy)."
)
KEYS = ("sentiment", "category", "resolution")

SOFT = frozenset(
    "billing/invoice delivery/missing delivery/address compatibility/check compatibility/unnamed compatibility/speed "
    "account/email account/locked question/warranty question/window question/dispatch question/bulk".split()
)
"""What a well-meaning customer may write about, too; a dead drive with compliments would be mixed, not positive."""

_THREATENED = ("billing", "delivery", "defect", "account")
_LIMITS = {"return": 30, "late": 10, "wrong": 30, "dead": 36}
_MOST = {"return": 75, "late": 30, "wrong": 75, "dead": 70}
_ASIDES, _MISLED, _THREAT_SHARE, _OPENED = 0.55, 0.12, 0.15, 0.6


@dataclass(frozen=True)
class Ticket:
    """A message and what is right about it.

    Attributes:
        text: as the customer wrote it.
        sentiment: one of `policy.SENTIMENTS`: the tone, not the matter.
        category: one of `policy.CATEGORIES`.
        facts: what the policy asks: ``situation``, and ``days``, ``months`` or ``legal``.
        resolution: what the policy does.
        style: one of `styles.STYLES`.
        made_of: ids of the templates.
    """

    text: str
    sentiment: str
    category: str
    facts: Mapping[str, Any]
    resolution: str
    style: str = "plain"
    made_of: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The line of JSON."""
        return json.dumps({key: getattr(self, key) for key in KEYS}, ensure_ascii=False)


def make_tickets(count: int, seed: int, part: Part) -> list[Ticket]:
    """Write tickets; no two have the same text.

    Args:
        count: how many; categories take turns.
        seed: same seed, same tickets, everywhere.
        part: whose templates, names and numbers are used; no two parts share any.

    Raises:
        ConfigurationError: there is no such part, or not so many tickets.
    """
    key = f"tickets:{part}:{seed}"
    return distinct(lambda rng, place: _ticket(rng, place, part), lambda each: each.text, count, key)


def tickets(count: int, seed: int, part: Part) -> list[Example]:
    """Give `make_tickets` as rows to train on or to ask."""
    return [
        Example(f"tickets-{part}-{place:04}", turns(SYSTEM, each.text), each.answer)
        for place, each in enumerate(make_tickets(count, seed, part))
    ]


def check(answer: str) -> list[str]:
    """Say what is wrong with an answer's form; [] when nothing is.

    Args:
        answer: a model's; blanks around it do not matter.
    """
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return ["no JSON"]
    if not isinstance(found, dict):
        return ["no JSON object"]
    problems = ["more than one line"] if "\n" in answer.strip() else []
    if set(found) != set(KEYS):
        problems.append(f"keys are not {', '.join(KEYS)}")
    closed: dict[str, Sequence[str]] = {
        "sentiment": SENTIMENTS,
        "category": list(CATEGORIES),
        "resolution": RESOLUTIONS,
    }
    return problems + [f"{key} is not one of ours" for key, values in closed.items() if found.get(key) not in values]


def right(answer: str, example: Example) -> dict[str, bool]:
    """Say which fields of an answer are right; none is when it is no JSON object.

    Args:
        answer: a model's.
        example: the row that was asked.
    """
    wanted = json.loads(example.completion)
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    return {key: isinstance(found, dict) and found.get(key) == wanted[key] for key in KEYS}


RESOLUTIONS = tuple(dict.fromkeys(rule.resolution for rule in POLICY))


def _ticket(rng: Random, place: int, part: Part) -> Ticket:
    category = list(CATEGORIES)[place % len(CATEGORIES)]
    sentiment = rng.choice(SENTIMENTS)
    situation = rng.choice(_situations(category, sentiment))
    core = rng.choice(templates(f"{category}/{situation}", CORES[f"{category}/{situation}"], part))
    facts: dict[str, Any] = {"situation": situation, **_measure(rng, situation, core, part)}
    style = _style(rng, sentiment)
    threat = None
    if sentiment == "negative" and category in _THREATENED and situation != "hazard" and rng.random() < _THREAT_SHARE:
        facts["legal"] = 1
        threat = _one(rng, "threats", frames.THREATS, part)
    texts = _framed(rng, core, sentiment, category, style, threat, part)
    places = _places(rng, facts, part)
    text = STYLES[style](" ".join(each.text.format_map(places) for each in texts), rng)
    resolution = resolve(category, facts)
    return Ticket(text, sentiment, category, facts, resolution, style, tuple(each.id for each in texts))


def _situations(category: str, sentiment: str) -> list[str]:
    """What a message of this mood may be about."""
    all_of = [key.partition("/")[2] for key in CORES if key.startswith(f"{category}/")]
    if sentiment == "positive":
        return ["thanks", "thanks", *(each for each in all_of if f"{category}/{each}" in SOFT)]
    return [each for each in all_of if each != "thanks"]


def _measure(rng: Random, situation: str, core: Template, part: Part) -> dict[str, int]:
    """Days or months where the policy asks for them, as often within the limit as beyond it."""
    unit = next((each for each in ("days", "months") if f"{{{each}}}" in core.text), None)
    if unit is None:
        return {}
    limit = _LIMITS[situation]
    low, high = rng.choice(((2, limit), (limit + 1, _MOST[situation])))
    return {unit: number(rng, low, high, part)}


def _style(rng: Random, sentiment: str) -> str:
    """Nobody shouts who has no mood, and few greet politely in anger."""
    unfit = {"neutral": {"shouting"}, "negative": {"polite"}, "positive": {"terse"}}[sentiment]
    return rng.choice(["plain", *(each for each in STYLES if each not in unfit)])


def _framed(
    rng: Random, core: Template, sentiment: str, category: str, style: str, threat: Template | None, part: Part
) -> list[Template]:
    """The sentences of a message in their order."""
    found = [core]
    if rng.random() < _ASIDES and style != "terse":
        found.insert(rng.randrange(2), _aside(rng, category, part))
    if style == "rambling":
        found[0:0] = _some(rng, "ramblings", frames.RAMBLINGS, part, 2)
    if rng.random() < _MISLED and style != "terse" and threat is None:
        found.append(_one(rng, "misleading", frames.MISLEADING, part))
    if style != "terse" and rng.random() < _OPENED:
        found.insert(0, _one(rng, f"opening-{sentiment}", frames.OPENINGS[sentiment], part))
    found += [threat] if threat else []
    if style != "terse" or sentiment != "neutral":
        found.append(_one(rng, f"closing-{sentiment}", frames.CLOSINGS[sentiment], part))
    return _greeted(rng, found, style, part)


def _greeted(rng: Random, found: list[Template], style: str, part: Part) -> list[Template]:
    greetings = {
        "polite": (frames.GREETINGS, frames.FAREWELLS),
        "german": (frames.GERMAN_GREETINGS, frames.GERMAN_FAREWELLS),
    }.get(style)
    if greetings is None:
        return found
    hello, goodbye = greetings
    return [_one(rng, f"hello-{style}", hello, part), *found, _one(rng, f"goodbye-{style}", goodbye, part)]


def _aside(rng: Random, category: str, part: Part) -> Template:
    other = rng.choice([each for each in CATEGORIES if each != category])
    return _one(rng, f"aside-{other}", frames.ASIDES[other], part)


def _one(rng: Random, group: str, texts: Sequence[str], part: Part) -> Template:
    return rng.choice(templates(group, texts, part))


def _some(rng: Random, group: str, texts: Sequence[str], part: Part, count: int) -> list[Template]:
    found = templates(group, texts, part)
    return rng.sample(list(found), min(count, len(found)))


def _places(rng: Random, facts: Mapping[str, Any], part: Part) -> dict[str, str]:
    """What the templates may ask for."""
    drive, kit = rng.choice(dealt(DRIVES, part)), rng.choice(dealt(KITS, part))
    price = number(rng, 30, 400, part)
    name = rng.choice(dealt(NAMES, part))
    mark = rng.choice(("{}", "#{}", "RL-{}", "no. {}"))
    order, other = (mark.format(number(rng, 40000, 99000, part)) for _ in range(2))
    return {
        "drive": drive,
        "kit": kit,
        "product": rng.choice((drive, kit)),
        "board": rng.choice(dealt(BOARDS, part)),
        "name": name,
        "mail": name.lower().replace(" ", ".") + f"{number(rng, 10, 99, part)}@postbox.example",
        "town": rng.choice(dealt(TOWNS, part)),
        "order": order,
        "other": other,
        "price": str(price),
        "more": str(number(rng, price + 9, price + 60, part)),
        "many": str(number(rng, 20, 300, part)),
        **{unit: str(facts[unit]) for unit in ("days", "months") if unit in facts},
    }
