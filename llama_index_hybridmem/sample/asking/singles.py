"""Questions about one fact each, in several phrasings; pure, opens no file."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llama_index_hybridmem.sample.asking.phrasings import Form
from llama_index_hybridmem.sample.asking.question import TEST, Phrased, Question, phrased
from llama_index_hybridmem.sample.asking.quoting import answer_in, quote_of
from llama_index_hybridmem.sample.asking.sheets import Fact, Material, Wording

FORMS: tuple[tuple[Form, ...], ...] = (("direct", "clause", "keywords"), ("direct", "clause", "direct"))
"""How a fact is asked for; one fact the first way, the next one the second."""


_WEIGHT = 2
"""How much more the entity's own words count in the choice of a quote."""


@dataclass(frozen=True)
class Single:
    """A question with the fact and the phrasing it was made of."""

    question: Question
    fact: Fact
    phrased: Phrased


def singles(material: Material, splits: Mapping[str, str], seed: int) -> Iterator[Single]:
    """Ask for every fact that has a wording, three times.

    Raises:
        ConfigurationError: a document does not say an answer.
    """
    shared = shared_attributes(material, splits)
    for number, fact in enumerate(material.facts):
        wording = material.wording(fact)
        if wording is None:
            continue
        rng = random.Random(f"{seed}:{fact.entity}:{fact.attribute}")
        answer, quotes = told(material, fact, wording)
        names = list(material.named(fact.entity))
        rng.shuffle(names)
        split = splits[fact.documents[0]]
        for turn, form in enumerate(FORMS[number % len(FORMS)]):
            made = phrased(wording, form, split, rng, fact.attribute in shared)
            key = f"{fact.entity}:{fact.attribute}:{turn}"
            text = made.text(names[turn % len(names)], material.shortly(fact.entity))
            domain = material.domains[fact.documents[0]]
            args = (answer, fact.sources, quotes, domain, made.phrasing, split)
            yield Single(Question(key, text, "single", *args), fact, made)


def told(material: Material, fact: Fact, wording: Wording) -> tuple[str, tuple[str, ...]]:
    """The answer as the documents write it, and the sentence of each document that says it."""
    texts = [material.documents[stem] for stem in fact.sources]
    answer = wording.answer or answer_in(fact.value, fact.unit, texts[0])
    about = (wording.direct, wording.again, wording.keywords, fact.attribute, *(_WEIGHT * (fact.entity,)))
    return answer, tuple(quote_of(text, answer, about) for text in texts)


def shared_attributes(material: Material, splits: Mapping[str, str]) -> frozenset[str]:
    """Attributes that the test part and another one ask for."""
    parts: dict[str, set[bool]] = {}
    for fact in material.facts:
        parts.setdefault(fact.attribute, set()).add(splits[fact.documents[0]] == TEST)
    return frozenset(attribute for attribute, found in parts.items() if len(found) > 1)
