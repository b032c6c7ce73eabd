"""Which of the waiting requests join the batch: pure, knows no model and no threads.

First come, first served: a request that cannot join holds back those behind it, so nothing waits for ever.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Seat:
    """What of a request decides whether it fits.

    Attributes:
        lane: only seats of one lane share a batch.
        weights: the adapter, None for the base.
        room: tokens of prompt and answer at most.
    """

    lane: Hashable
    weights: Hashable | None
    room: int


@dataclass(frozen=True)
class Limits:
    """What a batch may hold.

    Attributes:
        rows: requests.
        tokens: rows times the longest room, which bounds the memory of keys and values; a lone request may exceed it.
        adapters: different ones, the base not counted.
    """

    rows: int
    tokens: int
    adapters: int


def joining(waiting: Sequence[Seat], running: Sequence[Seat], limits: Limits) -> int:
    """How many of the waiting, from the front, join those that run.

    Args:
        waiting: oldest first.
        running: the batch as it is.
        limits: of the batch afterwards.
    """
    batch = list(running)
    for seat in waiting:
        if batch and not _fits(seat, batch, limits):
            break
        batch.append(seat)
    return len(batch) - len(running)


def _fits(seat: Seat, batch: Sequence[Seat], limits: Limits) -> bool:
    rows = [*batch, seat]
    adapters = {row.weights for row in rows} - {None}
    longest = max(row.room for row in rows)
    return (
        seat.lane == batch[0].lane
        and len(rows) <= limits.rows
        and len(rows) * longest <= limits.tokens
        and len(adapters) <= limits.adapters
    )


def alike(lengths: Sequence[int], ratio: float = 2.0, short: int = 64) -> list[list[int]]:
    """Group prompts that are computed together, so that short ones are not padded to a long one.

    Args:
        lengths: tokens of each prompt.
        ratio: of the longest to the shortest in a group, at most.
        short: up to here, all are alike: a product over so few tokens costs what reading the weights costs.

    Returns:
        Places in `lengths`, group by group.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and lengths[place] <= max(short, ratio * lengths[groups[-1][0]]):
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
