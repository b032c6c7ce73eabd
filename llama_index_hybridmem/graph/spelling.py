"""Finds names of a graph that are spelt like one it does not know; ranks no answer and holds no list of names."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher

import numpy as np

from .entities import CONNECTORS, STOPWORDS, normalise, terms
from .stores.base import GraphStore

_LETTERS = string.ascii_lowercase + string.digits + " "
_LONGEST = 40  # characters of a name whose misspellings are tried: some 75 a character
_PASSAGES = 20
_ALIKE = 0.5


def similar_names(store: GraphStore, entity: str, count: int = 5) -> list[str]:
    """List known names that may be what was meant, the most alike first.

    Tried are the name without its accents, each run of its words, every spelling one letter away, and the names in the
    passages that have its words: a few look-ups, however many names the graph has.

    Args:
        store: any.
        entity: a name that the graph does not know.
        count: most names listed.
    """
    key = normalise(entity)
    found = set(store.find_names({*_runs(key), *_misspelt(_plain(key))}))
    numbers = store.passage_ids([node_id for node_id, _ in store.keyword_scores(terms(entity), _PASSAGES)])
    there = store.names_in(np.fromiter(numbers.values(), dtype=np.int64))
    likeness = {link.name.name: _alike(key, link.name.name) for links in there.values() for link in links}
    likeness = {name: value for name, value in likeness.items() if value >= _ALIKE}
    likeness.update((name, 1 + _alike(key, name)) for name in found if name not in STOPWORDS)
    return sorted(likeness, key=lambda name: (-likeness[name], name))[:count]


def _runs(key: str) -> Iterator[str]:
    words = key.split()
    for first in range(len(words)):
        for after in range(first + 1, len(words) + 1):
            if words[first] not in CONNECTORS:
                yield " ".join(words[first:after])


def _plain(key: str) -> str:
    """Without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", key) if not unicodedata.combining(letter))


def _misspelt(key: str) -> Iterator[str]:
    """The name itself and what one letter more, less, other, or swapped with the next makes of it."""
    yield key
    if len(key) > _LONGEST:
        return
    for place in range(len(key) + 1):
        head, tail = key[:place], key[place:]
        yield head + tail[1:]
        yield head + tail[1:2] + tail[:1] + tail[2:]
        for letter in _LETTERS:
            yield head + letter + tail
            yield head + letter + tail[1:]


def _alike(one: str, other: str) -> float:
    """Between 0 and 1, whatever the order of the words."""
    return max(
        SequenceMatcher(None, one, other).ratio(),
        SequenceMatcher(None, " ".join(sorted(one.split())), " ".join(sorted(other.split()))).ratio(),
    )
