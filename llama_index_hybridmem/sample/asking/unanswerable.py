"""Twins of questions that no document answers: the same words about something else, checked; pure, opens no file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from llama_index_hybridmem.sample.asking.question import Question, folded
from llama_index_hybridmem.sample.asking.sheets import Material, Twin
from llama_index_hybridmem.sample.asking.singles import Single
from llama_index_hybridmem.terms import sentences

TIMES = 2
"""How often one thing is asked of one entity, at most."""


def twins(material: Material, asked: Iterable[Single], splits: Mapping[str, str]) -> Iterator[Question]:
    """Give each question whose attribute has a twin the twin that was used least, in the same phrasing.

    A twin belongs to the part of its original, and to no other; an entity with a document of its own has to be of that
    part, too.
    """
    free = {name: _unanswered(material, twin) for name, twin in material.twins.items()}
    used: Counter[tuple[str, str]] = Counter()
    part: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    known = {fact.entity for fact in material.facts}  # an unknown name alone gives away that nothing answers
    for single in asked:
        original, attribute = single.question, single.fact.attribute
        choices = [
            each
            for each in free.get(attribute, ())
            if used[attribute, each] < TIMES
            and part.get((attribute, each), original.split) == original.split
            and _homes(material, each, splits) <= {original.split}
        ]
        made = [(each, _text(material, single, each)) for each in choices]
        found = [(each, text) for each, text in made if folded(text) not in seen]
        if not found:
            continue
        entity, text = min(found, key=lambda each: (used[attribute, each[0]], each[0] not in known))
        used[attribute, entity] += 1
        part[attribute, entity] = original.split
        seen.add(folded(text))
        yield Question(
            f"twin:{attribute}:{entity}:{used[attribute, entity]}", text, "unanswerable", None, (), (),
            original.domain, original.phrasing, original.split, original.key,
        )  # fmt: skip


def _text(material: Material, single: Single, entity: str) -> str:
    return single.phrased.text(material.named(entity)[0], material.shortly(entity))


def _homes(material: Material, entity: str, splits: Mapping[str, str]) -> set[str]:
    return {splits[stem] for fact in material.facts if fact.entity == entity for stem in fact.documents}


def _unanswered(material: Material, twin: Twin) -> list[str]:
    return [each for each in twin.entities if is_unanswered(material, twin.attribute, each, twin.cues)]


def is_unanswered(material: Material, attribute: str, entity: str, cues: Iterable[str]) -> bool:
    """Whether no table states an attribute of an entity, and no text may.

    A text may, when a sentence that names the entity, or any sentence of a document about it, has a cue: a word that
    begins like one of those that would tell the attribute. So some that are not answered are left out.
    """
    if any(fact.attribute == attribute and fact.entity == entity for fact in material.facts):
        return False
    return not any(begins(cue, sentence) for sentence in _spoken_of(material, entity) for cue in cues)


def _spoken_of(material: Material, entity: str) -> Iterator[str]:
    names = [name.removeprefix("the ") for name in (*material.named(entity), entity)]
    homes = {stem for fact in material.facts if fact.entity == entity for stem in fact.documents}
    for stem, text in material.documents.items():
        if stem in homes or any(begins(name, text.partition("\n")[0]) for name in names):
            yield text
        elif any(begins(name, text) for name in names):
            named = [each for each in sentences(text) if any(begins(name, each) for name in names)]
            in_table = any(each.startswith("|") for each in named)  # whose cue may stand in its head, or above it
            yield from [text] if in_table else named


@lru_cache(maxsize=1 << 13)
def _folded(text: str) -> str:
    return text.casefold()


def begins(words: str, text: str) -> bool:
    """Whether words stand in a text, the last of them perhaps longer; whatever case."""
    # A look for the letters first: it is ten times as fast as the pattern, and nearly always enough.
    return _folded(words) in _folded(text) and bool(re.search(rf"(?<!\w){re.escape(words)}", text, re.IGNORECASE))
