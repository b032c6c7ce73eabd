"""Questions about two facts: which of two entities has more of something, and one named through another; pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from itertools import combinations

from llama_index_hybridmem.sample.asking.question import TEST, Question, phrased
from llama_index_hybridmem.sample.asking.quoting import row_of
from llama_index_hybridmem.sample.asking.sheets import Bridge, Comparison, Fact, Material, Wording
from llama_index_hybridmem.sample.asking.singles import shared_attributes, told

MOST = 8
"""Comparisons made of one row of the sheet, at most."""


def comparisons(material: Material, splits: Mapping[str, str], seed: int) -> Iterator[Question]:
    """Ask which of two entities has more, or less. The answer is its name, the quotes are rows of the tables of facts.

    Only entities of one part whose values differ are compared.
    """
    for number, each in enumerate(material.comparisons):
        rng = random.Random(f"{seed}:comparison:{number}")
        facts = [fact for fact in material.facts if fact.attribute == each.attribute and fact.entity in each.entities]
        pairs = [pair for pair in combinations(facts, 2) if _differ(pair, splits)]
        for pair in rng.sample(pairs, min(MOST, len(pairs))):
            yield _comparison(material, each, number, pair, splits, rng)


def _differ(pair: tuple[Fact, Fact], splits: Mapping[str, str]) -> bool:
    first, second = pair
    return _number(first) != _number(second) and splits[first.documents[0]] == splits[second.documents[0]]


def _number(fact: Fact) -> float:
    base, _, power = fact.value.partition("^")
    return math.pow(float(base), float(power or 1))


def _comparison(
    material: Material,
    how: Comparison,
    number: int,
    pair: tuple[Fact, Fact],
    splits: Mapping[str, str],
    rng: random.Random,
) -> Question:
    winner = (min if how.lowest_wins else max)(pair, key=_number)
    split = splits[pair[0].documents[0]]
    # The last wording is the test part's, the others are everybody else's.
    turn = len(how.wordings) - 1 if split == TEST else rng.randrange(len(how.wordings) - 1)
    a, b = rng.sample([rng.choice(material.named(fact.entity)[:2]) for fact in pair], 2)
    text = how.wordings[turn].replace("{a}", a).replace("{b}", b)
    documents = tuple(dict.fromkeys(fact.documents[0] for fact in pair))
    quotes = tuple(row_of(material.tables[fact.documents[0]], fact.entity, fact.attribute) for fact in pair)
    key = f"compare:{number}:{pair[0].entity}:{pair[1].entity}"
    domain = material.domains[documents[0]]
    return Question(
        key, text, "comparison", winner.entity, documents, quotes, domain, f"compare-{number}-{turn + 1}", split
    )


def two_hops(material: Material, splits: Mapping[str, str], seed: int) -> Iterator[Question]:
    """Ask for a fact of an entity that is named through a fact of another document.

    Sources and quotes come in the order of the hops. The first document does not hold the answer.

    Raises:
        ConfigurationError: a document does not say an answer.
    """
    shared = shared_attributes(material, splits)
    for bridge in material.bridges:
        first = next(f for f in material.facts if (f.entity, f.attribute) == (bridge.through, bridge.attribute))
        for fact in material.facts:
            if fact.entity == bridge.entity and _crosses(material, first, fact, splits):
                yield _two_hop(material, bridge, first, fact, splits, seed, fact.attribute in shared)


def _crosses(material: Material, first: Fact, fact: Fact, splits: Mapping[str, str]) -> bool:
    wording = material.wording(fact)
    if wording is None or {*first.sources} & {*fact.sources} or not _takes_phrase(wording):
        return False
    answer, _ = told(material, fact, wording)
    known = material.documents[first.documents[0]]
    return splits[first.documents[0]] == splits[fact.documents[0]] and answer not in known


def _takes_phrase(wording: Wording) -> bool:
    """Whether "the maker of HBM3" fits in: into running text it does, into a compound it does not."""
    return all("{e}" in text and "{k}" not in text for text in (wording.direct, wording.again, wording.clause))


def _two_hop(
    material: Material, bridge: Bridge, first: Fact, fact: Fact, splits: Mapping[str, str], seed: int, shared: bool
) -> Question:
    wording, across = material.wording(fact), material.wording(first)
    if wording is None or across is None:
        raise ValueError(f"{fact.entity}, {fact.attribute}: no wording")
    key = f"{bridge.through}:{bridge.attribute}:{fact.attribute}"
    rng = random.Random(f"{seed}:{key}")
    split = splits[fact.documents[0]]
    made = phrased(wording, rng.choice(("direct", "clause")), split, rng, shared)
    answer, quotes = told(material, fact, wording)
    _, lead = told(material, first, across)
    text = made.text(bridge.phrase, bridge.phrase.removeprefix("the "))
    sources = (first.documents[0], fact.documents[0])
    domain = material.domains[fact.documents[0]]
    return Question(key, text, "two_hop", answer, sources, (lead[0], quotes[0]), domain, made.phrasing, split)
