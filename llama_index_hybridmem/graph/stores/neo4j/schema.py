"""Labels, indexes and constraints of one graph store in a Neo4j database; knows nothing of what is done with them.

A store has labels of its own, so that several (one for each tenant) live in one database beside whatever else is there,
and no count, score or walk of one ever sees another. Labels cannot be parameters of a statement: a store's name is
therefore checked, and everything else that varies is a parameter.

    (:HybridmemStore {name, version, schema, total, upper, long, length, next})
    (:Passage_x {id, key, node_id, doc_key, doc_id, title, lead, text, node, digest, doc_hash, long, words, length,
        declared, elements, and one list per kind and field of metadata})
      -[:MENTIONS {total, upper, titled, surface}]->
        (:Name_x {id, key, name, head, df, total, upper, case, uses, given})
      -[:STATES]-> (:Fact_x {key, passage, subject, relation, object, source, subject_key, object_key})
        -[:SUBJECT | :OBJECT]-> (:Name_x)
    (:Word_x {key, df})
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ....errors import ConfigurationError

VERSION = 1
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_PLAIN = re.compile(r"[^a-z0-9]+")
_HASHED = re.compile(r".{64}…[0-9a-f]{64}", re.DOTALL)
_LONGEST_KEY = 512
"""Bytes of an indexed text; Neo4j refuses values of more than about 8,000."""


@dataclass(frozen=True)
class Schema:
    """The labels and indexes of one store.

    Args:
        store: its name: a letter, then at most 62 letters, digits and underscores.

    Raises:
        ConfigurationError: another name.
    """

    store: str

    def __post_init__(self) -> None:
        """Check the name, which becomes part of statements."""
        if not _NAME.fullmatch(self.store):
            raise ConfigurationError(
                f"a store's name is a letter and at most 62 letters, digits and underscores, not {self.store!r:.200}"
            )

    @cached_property
    def labels(self) -> dict[str, str]:
        """The labels by the letters that stand for them in statements."""
        kinds = {"P": "Passage", "N": "Name", "F": "Fact", "W": "Word"}
        return {letter: f"Hybridmem{kind}_{self.store}" for letter, kind in kinds.items()}

    @property
    def words_index(self) -> str:
        """The full-text index over passages' words."""
        return f"hybridmem_{self.store}_words"

    def fill(self, cypher: str) -> str:
        """Put the labels into a statement: `<P>`, `<N>`, `<F>` and `<W>` stand for them."""
        for letter, label in self.labels.items():
            cypher = cypher.replace(f"<{letter}>", label)
        return cypher

    @property
    def index_names(self) -> list[str]:
        """Every index of the store."""
        return [self.words_index, *(self._index(*each) for each in (*_UNIQUE, *_INDEXED))]

    def statements(self) -> list[str]:
        """Everything that makes the schema; each may be run again."""
        unique = [
            f"CREATE CONSTRAINT {self._index(kind, field)} IF NOT EXISTS FOR (x:{self.labels[kind]})"
            f" REQUIRE x.{field} IS UNIQUE"
            for kind, field in _UNIQUE
        ]
        indexed = [
            f"CREATE INDEX {self._index(kind, field)} IF NOT EXISTS FOR (x:{self.labels[kind]}) ON (x.{field})"
            for kind, field in _INDEXED
        ]
        words = (
            f"CREATE FULLTEXT INDEX {self.words_index} IF NOT EXISTS FOR (x:{self.labels['P']}) ON EACH [x.words]"
            " OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace', `fulltext.eventually_consistent`: false}}"
        )
        stores = "CREATE CONSTRAINT hybridmem_stores IF NOT EXISTS FOR (x:HybridmemStore) REQUIRE x.name IS UNIQUE"
        return [stores, *unique, *indexed, words]

    def _index(self, kind: str, field: str) -> str:
        return f"hybridmem_{self.store}_{kind.lower()}_{field}"


_UNIQUE = (("P", "id"), ("P", "key"), ("N", "id"), ("N", "key"), ("F", "key"), ("W", "key"))
_INDEXED = (("P", "doc_key"), ("N", "head"), ("F", "passage"), ("F", "subject_key"), ("F", "object_key"))


def key_of(text: str) -> str:
    """Give what a text is found by: itself, or where it is too long for an index, its beginning and a hash."""
    short = len(text) * 4 <= _LONGEST_KEY or len(text.encode("utf-8", "surrogatepass")) <= _LONGEST_KEY
    if short and not _HASHED.fullmatch(text):  # or it would be found by another's key
        return text
    return f"{text[:64]}…{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def keys_of(texts: Iterable[str]) -> list[str]:
    """Give the keys of texts, each once; without those that hold half a character, which no server takes."""
    return list(dict.fromkeys(key_of(text) for text in texts if is_whole(text)))


def is_whole(text: str) -> bool:
    """Whether a text holds no half of a character."""
    return text.encode("utf-8", "ignore").decode() == text


def tenant_store(store: str, tenant: str) -> str:
    """Name a tenant's own store; different tenants never share one, whatever characters their names have.

    Raises:
        ConfigurationError: an empty tenant, or a store's name that leaves no room.
    """
    if not tenant.strip():
        raise ConfigurationError(f"a tenant's name is not empty: {tenant!r}")
    digest = hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = _PLAIN.sub("_", tenant.lower()).strip("_")[:16]
    return "_".join(part for part in (store, readable, digest) if part)
