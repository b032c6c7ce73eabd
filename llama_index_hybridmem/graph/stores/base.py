"""What a graph store holds and answers; knows no database, no LlamaIndex and no ranking.

A store keeps passages, the names in them and facts about those names. It finds names, follows links one step in either
direction and hands passages back; how far to go and how to rank is `graph.walk`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...filters import Filter

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fact:
    """A readable statement "subject → relation → object".

    Attributes:
        node_id: the passage it was read from, None when the user stated it.
        source: where it came from, shown as provenance ("triples.csv", "kg_extractors").
    """

    subject: str
    relation: str
    object: str
    node_id: str | None = None
    source: str = ""

    def __str__(self) -> str:
        return f"{self.subject} → {self.relation} → {self.object}"


@dataclass(frozen=True)
class Passage:
    """One chunk as the graph sees it.

    Attributes:
        node_id: the LlamaIndex node id.
        doc_id: the source document's id.
        title: "" when there is none.
        text: running text; names and words are read from it.
        names: the normalised names that this passage declares (see `entities.declared_names`).
        metadata: what filters are evaluated on.
        facts: statements read from this passage.
        node: the serialised node without its text, handed back as it came.
        doc_hash: the hash of the whole source document, by which a changed one is told.
        long: whether it is longer than the encoder reads.
        lead: whether it is the first passage of its document, and so the one its title names. Were every passage of a
            document named by the title, the walk would go round among them instead of on to other documents.
    """

    node_id: str
    doc_id: str
    title: str
    text: str
    names: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    node: str = ""
    doc_hash: str = ""
    long: bool = False
    lead: bool = True


@dataclass(frozen=True)
class Name:
    """A known name.

    Attributes:
        id: the store's number for it.
        name: normalised form.
        df: passages that have it.
        case: share of its counted mentions written with capitals, 1.0 when none was counted or the user stated it.
        given: whether the user stated it, alone or as the end of a fact.
    """

    id: int
    name: str
    df: int
    case: float
    given: bool = False


@dataclass(frozen=True)
class Link:
    """A name in a passage, as the passage writes it."""

    name: Name
    surface: str
    titled: bool


@dataclass(frozen=True)
class NameRule:
    """Which names may carry mass from passage to passage; applied when asking, so exact however the store changes.

    Attributes:
        max_df: above this many passages a name ties everything together.
        min_case: below this share of capitalised mentions it is a common word ("city"); 0 switches the filter off.
    """

    max_df: int
    min_case: float

    def admits(self, name: Name) -> bool:
        """Whether the name ties at least two passages, or may be tied by a fact to another, and obeys the limits."""
        return (name.df > 1 or name.given) and name.df <= self.max_df and name.case >= self.min_case


@dataclass(frozen=True)
class Links:
    """Passage–name links as parallel arrays of shape (links,).

    Attributes:
        passages: passage ids.
        names: name ids.
        df: passages that have the name, in the whole store.
        titled: whether the passage is titled by the name.
    """

    passages: Ids
    names: Ids
    df: Ids
    titled: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StoredPassage:
    """A passage as handed back."""

    id: int
    node_id: str
    title: str
    text: str
    node: str


class GraphReads(Protocol):
    """The few methods by which a graph store is asked.

    Ids are the store's own integers and never used twice: what was deleted since is missing from the answers.
    """

    def find_names(self, candidates: Iterable[str]) -> dict[str, Name]:
        """Look up normalised names; unknown ones are missing from the answer."""

    def passage_ids(self, node_ids: Sequence[str], keep: Filter | None = None) -> dict[str, int]:
        """Look up passages by node id; filtered-out and unknown ones are missing from the answer."""

    def node_ids(self, passages: Ids) -> dict[int, str]:
        """Give the node id of each passage; unknown ones are missing from the answer."""

    def links_of_passages(self, passages: Ids, rule: NameRule) -> Links:
        """Follow passages to those of their names that the rule admits."""

    def links_of_names(self, names: Ids, keep: Filter | None = None) -> Links:
        """Follow names to their passages, filtered-out passages left aside."""

    def links_between(self, passages: Ids, names: Ids) -> Links:
        """List which of the given passages have which of the given names, whatever the rule says of them."""

    def names_in(self, passages: Ids) -> dict[int, list[Link]]:
        """List every name of the given passages."""

    def load(self, passages: Ids) -> dict[int, StoredPassage]:
        """Hand passages back."""

    def facts_about(self, names: Ids, passages: Ids, limit: int) -> list[tuple[Fact, int | None]]:
        """List statements read from the given passages, and those of no passage about the given names.

        Returns:
            each with its passage id or None; at most `limit` per passage, and as many of no passage.
        """

    def fact_links(self, names: Ids, rule: NameRule, keep: Filter | None = None) -> list[tuple[int, int, int]]:
        """Follow names to those that a fact ties them to, facts of filtered-out passages left aside.

        Returns:
            (name, other name, the other's df) for every tie, where the rule admits the other.
        """

    def keyword_scores(self, terms: Iterable[str], top_k: int, keep: Filter | None = None) -> list[tuple[str, float]]:
        """Rank passages by BM25 over plain words, for want of a better keyword memory: (node id, score), best first."""

    def sample(self, count: int) -> list[str]:
        """List some node ids, the same for the same store content: a background for telling close from unrelated."""

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Count the passages that have each word; words not found are missing from the answer."""

    def documents(self) -> dict[str, str]:
        """Give the hash of every document that has passages."""

    def document_node_ids(self, doc_id: str) -> list[str]:
        """List the node ids of one document."""

    @property
    def long_share(self) -> float:
        """Share of passages longer than the encoder reads."""

    @property
    def passage_count(self) -> int:
        """Number of passages."""

    @property
    def capital_share(self) -> float:
        """Share of all counted mentions written with capitals; near 0 the corpus has no capitals to go by."""


class GraphStore(GraphReads, Protocol):
    """A graph store: what it is asked by, and the few methods it is written by."""

    def upsert(self, passages: Sequence[Passage]) -> None:
        """Add or replace passages by node id, atomically; re-adding the same changes nothing."""

    def replace(self, doc_ids: Iterable[str], passages: Sequence[Passage]) -> None:
        """Make the given passages all there is of the given documents, atomically."""

    def delete(self, *, node_ids: Iterable[str] = (), doc_ids: Iterable[str] = ()) -> None:
        """Remove passages, with all that only they declared; unknown ids are ignored."""

    def await_writes(self) -> None:
        """Wait until no write is under way any more, also one whose end a lost connection has kept from us."""

    def add_names(self, names: Iterable[str]) -> None:
        """Add names the user knows of; they are linked to every passage that has them."""

    def add_facts(self, facts: Sequence[Fact]) -> None:
        """Add statements that belong to no passage; their ends become names."""

    def close(self) -> None:
        """Release files; further calls raise StoreClosedError."""


class PortableGraphStore(GraphStore, Protocol):
    """A graph store that gives back all that was written into it, so that it can be copied into another."""

    def export_passages(self, after: str | None, limit: int) -> list[Passage]:
        """Give passages whole, page by page.

        Names and facts come alphabetically, names that title and facts stand for among them; metadata as filters see
        them. Written into another store they make the same links, and that store gives them back the same.

        Args:
            after: the last node id of the page before; None for the first page.
            limit: most passages of a page.

        Returns:
            passages in the order of their node ids, whichever that is in the store; each page as it is at one moment.
        """

    def stated(self) -> tuple[list[str], list[Fact]]:
        """List what belongs to no passage: names that the user stated, ends of such facts among them, and facts."""

    def stats(self) -> dict[str, int]:
        """Count passages, names, links and facts, and whatever else the store can tell, under these keys."""


@dataclass(frozen=True)
class Push:
    """How mass spreads when a neighbourhood is fetched; see `walk.WalkSettings`."""

    tolerance: float
    damping: float
    fact_share: float


@runtime_checkable
class Foresight(Protocol):
    """What can fetch together what a search will ask for one by one."""

    def foresee_walk(
        self,
        passages: Mapping[int, float],
        names: Mapping[int, float],
        followed: Iterable[int],
        rule: NameRule,
        push: Push,
    ) -> None:
        """Fetch the neighbourhood of a walk: links and ties around these passages and names, by the mass they hold.

        Names already followed to their passages are followed again, whatever they hold. It only saves trips: what is
        not foreseen, or wrongly, is read when it is asked for.
        """

    def foresee_reading(self, passages: Ids) -> None:
        """Fetch passages that will be loaded and whose names will be listed."""


class ForesightedView(GraphReads, Foresight, Protocol):
    """A store as one question sees it."""


@runtime_checkable
class ForesightedStore(Protocol):
    """A store far away, where a round trip costs more than what it brings."""

    def view(self, question: str, keep: Filter | None) -> ForesightedView:
        """Open a view for one question and one filter; it is not shared between threads."""
