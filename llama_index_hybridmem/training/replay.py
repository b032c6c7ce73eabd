"""Rows of what a model knew, mixed into what it learns; pure, knows no model and where no row comes from.

A model that is trained on new rows alone forgets; a small share of old ones keeps most of what it knew (experience
replay, arXiv 1811.11682; for language models arXiv 2403.08763, where 1 to 10 % were enough).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example


def mixed(examples: Sequence[Example], general: Sequence[Example], share: float, seed: int = 0) -> list[Example]:
    """Spread general rows evenly among examples, whose own order stays.

    Args:
        examples: what is learned.
        general: what is replayed. They are drawn without repetition; where there are too few, each comes equally often
            but for one.
        share: of general rows among all, 0 or more and below 1; rounded down to whole rows.
        seed: 0 or more; which general rows are drawn, and in which order.

    Returns:
        All rows; general ones have the origin ``general``, and repeated ones ids of their own.

    Raises:
        ConfigurationError: a share out of range, or above 0 without general rows.
    """
    if not (isinstance(share, int | float) and 0 <= share < 1):
        raise ConfigurationError(f"replay: a share of 0 or more and below 1, not {share!r:.40}")
    if share == 0 or not examples:
        return list(examples)
    if not general:
        raise ConfigurationError(f"replay: a share of {share:g} needs general rows, and there are none; set it to 0")
    return _spread(examples, _drawn(general, _needed(len(examples), share), seed))


def of_earlier(rows: Sequence[Example], count: int, seed: int = 0) -> list[Example]:
    """Draw what is replayed from the rows that an earlier version was trained on.

    Every group of the same kinds of noise and the same ``answerable`` is drawn from in proportion to its size (largest
    remainders), so that what is rare is not lost by chance. Rows that were general then are left out: `mixed` brings
    new ones.

    Args:
        rows: of the earlier training.
        count: rows wanted; all when there are fewer.
        seed: 0 or more.

    Returns:
        Rows as they were, in their order.

    Raises:
        ConfigurationError: a negative count.
    """
    if count < 0:
        raise ConfigurationError(f"replay: 0 or more rows, not {count}")
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row.origin != "general":
            groups.setdefault(f"{row.answerable}:{' '.join(sorted(row.kinds))}", []).append(place)
    quotas = _quotas({name: len(places) for name, places in groups.items()}, count)
    kept = [place for name, places in groups.items() for place in Random(f"{seed}:{name}").sample(places, quotas[name])]
    return [rows[place] for place in sorted(kept)]


def _needed(examples: int, share: float) -> int:
    """General rows g with g / (examples + g) <= share; reckoned in fractions: .1 of 10 is 1, not .999."""
    part = Fraction(str(float(share)))
    return math.floor(part * examples / (1 - part))


def _drawn(general: Sequence[Example], count: int, seed: int) -> list[Example]:
    found: list[Example] = []
    for turn in range(-(-count // len(general))):
        order = Random(f"{seed}:replay:{turn}").sample(general, len(general))
        ends = f"#{turn + 1}" if turn else ""
        found += [replace(each, id=f"{each.id}{ends}", origin="general") for each in order]
    return found[:count]


def _spread(examples: Sequence[Example], drawn: Sequence[Example]) -> list[Example]:
    """The k-th of g rows stands at the middle of the k-th of g equal parts."""
    found, total, given = [], len(examples) + len(drawn), iter(drawn)
    places = {(2 * k + 1) * total // (2 * len(drawn)) for k in range(len(drawn))}
    rest = iter(examples)
    for place in range(total):
        found.append(next(given) if place in places else next(rest))
    return found


def _quotas(sizes: dict[str, int], count: int) -> dict[str, int]:
    total = sum(sizes.values())
    if count >= total:
        return sizes
    quotas = {name: count * size // total for name, size in sizes.items()}
    by_rest = sorted(sizes, key=lambda name: (-(count * sizes[name] % total), name))
    for name in by_rest[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas
