"""Any LlamaIndex PropertyGraphStore, read as relational memory without ingesting anything; ranks nothing.

The graph is read as a whole into memory and read again when it has changed: a question asks it some thirty times, which
takes milliseconds here and would take a second against a server through LlamaIndex's stores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeVar

from llama_index.core.graph_stores.types import PropertyGraphStore
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from ...errors import ConfigurationError, StoreError
from ...filters import Filter
from .base import Fact, Ids, Link, Links, Name, NameRule, Passage, StoredPassage
from .foreign_errors import in_our_terms
from .property_graph_chunks import ChunkTexts
from .property_graph_contents import Contents, read
from .property_graph_loader import Loader
from .property_graph_reading import ALIASES, MENTIONS, Reader, reader_of
from .property_graph_snapshot import Snapshot

logger = logging.getLogger(__name__)

T = TypeVar("T")


class PropertyGraphMemory:
    """The reading half of a graph store over a LlamaIndex property graph, for `EntityGraphRetriever` and the like.

    Entities are the names (with their aliases), chunks the passages, relations the facts; chunks carry the node ids by
    which a vector store knows them, and a relation that no chunk with a text stands for is a passage of its own.
    Nothing is read at construction: call `refresh()` at start, or the first question waits for it.

    How stale it may be: at most every `check_s` seconds, and only when asked something, it counts nodes and relations
    in the background, and reads the graph again if the counts have changed; what leaves them as they are (another text
    or property) is seen at `refresh()`. Reading 20,000 chunks, 20,000 entities and 100,000 relations takes some 15 s
    of CPU and 300 MB, of which 180 stay.

    Args:
        store: filled by `PropertyGraphIndex` or by your own tools; never written to, never closed.
        vector_store: gives the texts of chunks of which the graph holds only the ids.
        docstore: gives them, too, and is asked first.
        aliases: the properties that hold further names of an entity, as a list or with ; between them.
        mentions: the relation between a chunk and an entity in it.
        cypher: whether the store's `structured_query` takes Cypher over LlamaIndex's labels (`__Entity__`, `Chunk`);
            None: for the stores of Neo4j, Memgraph and FalkorDB. Without, the graph is read by `get` and
            `get_triplets`; then only for `SimplePropertyGraphStore` changes are seen without `refresh()`.
        max_size: nodes and relations beyond which the graph is not read; where only reading counts them, nodes come
            first, all at once, and relations as far as the limit.
        check_s: seconds between two looks whether the graph has changed, None: never.
        timeout_s: seconds that reading the graph may take.

    Raises:
        ConfigurationError: an argument that cannot be used.
    """

    def __init__(
        self,
        store: PropertyGraphStore,
        *,
        vector_store: BasePydanticVectorStore | None = None,
        docstore: BaseDocumentStore | None = None,
        aliases: Sequence[str] = ALIASES,
        mentions: str = MENTIONS,
        cypher: bool | None = None,
        max_size: int = 2_000_000,
        check_s: float | None = 60.0,
        timeout_s: float = 600.0,
    ) -> None:
        if not isinstance(store, PropertyGraphStore):
            raise ConfigurationError(f"store must be a LlamaIndex PropertyGraphStore, not {type(store).__name__}")
        self._store = store
        self._how = (tuple(aliases), mentions, cypher)
        self._texts = ChunkTexts(docstore, vector_store)
        self._max_size = max_size
        self._reader()  # refuses names that cannot stand in Cypher
        self._loader: Loader[Contents, Snapshot] = Loader(
            f"property graph in {type(store).__name__}",
            lambda: self._asked(lambda reader: reader.counts()),
            lambda: self._asked(self._read),
            Snapshot,
            check_s=check_s,
            timeout_s=timeout_s,
        )

    def refresh(self, timeout_s: float | None = None) -> None:
        """Read the graph now and wait for it; questions meanwhile are answered from the reading before.

        Args:
            timeout_s: seconds to wait (default: those of the constructor).

        Raises:
            StoreUnavailableError: the graph's server cannot be reached, or time is up.
            StoreAccessError: it refuses us.
            StoreError: it cannot be read for another reason.
        """
        self._loader.reload(timeout_s)

    def close(self) -> None:
        """Let go of the reading; the property graph store stays open. Further calls raise StoreClosedError."""
        self._loader.close()

    def stats(self) -> dict[str, int]:
        """Count passages, documents, names, links and facts of the reading, and its bytes."""
        return self._graph.stats()

    # -- reading ------------------------------------------------------------------------------------------------------

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up normalised names: as written, as aliases, then both without accents and in plain width."""
        return self._graph.find_names(candidates)

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """Look up passages by node id; filtered-out and unknown ones are missing from the answer."""
        return self._graph.passage_ids(node_ids, keep)

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """Give the node id of each passage; unknown ones are missing from the answer."""
        return self._graph.node_ids(passages)

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """Follow passages to those of their names that the rule admits."""
        return self._graph.links_of_passages(passages, rule)

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """Follow names to their passages, filtered-out passages left aside."""
        return self._graph.links_of_names(names, keep)

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """List which of the given passages have which of the given names."""
        return self._graph.links_between(passages, names)

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """List every name of the given passages, alphabetically."""
        return self._graph.names_in(passages)

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """Hand passages back."""
        return self._graph.load(passages)

    def facts_about(self, names: Ids, passages: Ids, limit: int) -> list[tuple[Fact, int | None]]:
        """List the facts read from the given passages, at most `limit` of each; every fact here has a passage."""
        return self._graph.facts_about(names, passages, limit)

    def fact_links(self, names: Ids, rule: NameRule, keep: Filter | None = None) -> list[tuple[int, int, int]]:
        """Follow names to those that a fact ties them to: (name, other name, the other's df)."""
        return self._graph.fact_links(names, rule, keep)

    def keyword_scores(self, terms: Iterable[str], top_k: int, keep: Filter | None = None) -> list[tuple[str, float]]:
        """Rank passages by BM25 over plain words: (node id, score), best first."""
        return self._graph.keyword_scores(terms, top_k, keep)

    def sample(self, count: int) -> list[str]:
        """List some node ids of chunks, the same for the same graph."""
        return self._graph.sample(count)

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Count the passages that have each word; words not found are missing from the answer."""
        return self._graph.document_frequencies(terms)

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that chunks name as their source, "" where they do not tell it."""
        return self._graph.documents()

    def document_node_ids(self, doc_id: str) -> list[str]:
        """List the node ids of one document's chunks."""
        return self._graph.document_node_ids(doc_id)

    @property
    def long_share(self) -> float:
        """Share of passages longer than an encoder reads, by their characters."""
        return self._graph.long_share

    @property
    def passage_count(self) -> int:
        """Number of passages: chunks with a text, and facts without one."""
        return self._graph.passage_count

    @property
    def capital_share(self) -> float:
        """1.0: what the graph holds as an entity is a name, however it is written."""
        return self._graph.capital_share

    # -- not writing --------------------------------------------------------------------------------------------------

    def upsert(self, passages: Sequence[Passage]) -> NoReturn:
        """Refuse: the graph is yours."""
        _refuse()

    def replace(self, doc_ids: Iterable[str], passages: Sequence[Passage]) -> NoReturn:
        """Refuse: the graph is yours."""
        _refuse()

    def delete(self, *, node_ids: Iterable[str] = (), doc_ids: Iterable[str] = ()) -> NoReturn:
        """Refuse: the graph is yours."""
        _refuse()

    def add_names(self, names: Iterable[str]) -> NoReturn:
        """Refuse: the graph is yours."""
        _refuse()

    def add_facts(self, facts: Sequence[Fact]) -> NoReturn:
        """Refuse: the graph is yours."""
        _refuse()

    # -- the graph ----------------------------------------------------------------------------------------------------

    @property
    def _graph(self) -> Snapshot:
        return self._loader.value()

    def _reader(self) -> Reader:
        return reader_of(self._store, *self._how)

    def _read(self, reader: Reader) -> Contents:
        size = reader.size(self._max_size)
        if size > self._max_size:
            raise StoreError(
                f"{size} or more nodes and relations are beyond max_size ({self._max_size}); with the memory for them"
                " raise it, else copy the graph into a store of ours (`hybridmem graph import`)"
            )
        contents = read(reader, self._texts)
        if contents.left_out:
            logger.warning(
                "%d chunks left out: neither the graph nor vector_store or docstore has their texts", contents.left_out
            )
        return contents

    def _asked(self, ask: Callable[[Reader], T]) -> T:
        """Ask the foreign store; whatever it raises becomes one of our errors."""
        with in_our_terms(self._store):
            return ask(self._reader())


def _refuse() -> NoReturn:
    raise StoreError(
        "an existing property graph is read, not written: add to it with PropertyGraphIndex.insert_nodes or the store's"
        " own upsert methods, then call refresh()"
    )
