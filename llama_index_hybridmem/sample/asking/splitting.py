"""Documents into train, dev and test, so that no fact is in two of them; pure, knows no question."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from llama_index_hybridmem.sample.asking.sheets import Fact

SHARES = {"test": 0.2, "dev": 0.1, "train": 1.0}
"""Of the facts, filled in this order; what is left is train's."""


def split_documents(facts: Sequence[Fact], seed: int) -> dict[str, str]:
    """Give every document its part. Documents that state the same value of the same entity go together."""
    groups = _groups(facts)
    sizes = {stem: sum(stem in fact.documents for fact in facts) for group in groups for stem in group}
    random.Random(f"{seed}:split").shuffle(groups)
    parts: dict[str, str] = {}
    left = {part: share * sum(sizes.values()) for part, share in SHARES.items()}
    for group in groups:
        size = sum(sizes[stem] for stem in group)
        part = next(part for part, room in left.items() if size <= room or part == "train")
        left[part] -= size
        parts.update(dict.fromkeys(group, part))
    return parts


def _groups(facts: Sequence[Fact]) -> list[tuple[str, ...]]:
    """Documents joined by a fact, whatever they call its attribute; sorted."""
    first: dict[tuple[str, str, str], str] = {}
    leader: dict[str, str] = {}
    for fact in facts:
        stems = [*fact.documents, first.setdefault((fact.entity, fact.value, fact.unit), fact.documents[0])]
        heads = sorted({_head(leader, stem) for stem in stems})
        leader.update(dict.fromkeys(heads, heads[0]))
    groups: dict[str, list[str]] = {}
    for stem in sorted(leader):
        groups.setdefault(_head(leader, stem), []).append(stem)
    return [tuple(group) for group in groups.values()]


def _head(leader: Mapping[str, str], stem: str) -> str:
    while leader.get(stem, stem) != stem:
        stem = leader[stem]
    return stem
