"""Merges what several stores found into fresh nodes, one per chunk; knows nothing of threads, deadlines or encoders.

Chunks are the same when their ``node_id`` is. LlamaIndex's property-graph retrievers need two exceptions: they return
bare triplets ("A -> R -> B") whose SOURCE is the chunk, and they write triplets in front of a chunk's text. Both are
read back here into the chunk and its facts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY
from llama_index.core.indices.property_graph.retriever import PGRetriever
from llama_index.core.indices.property_graph.sub_retrievers.base import DEFAULT_PREAMBLE, BasePGRetriever
from llama_index.core.schema import BaseNode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from .events import METADATA_KEY
from .fusion import Fused, by_score, rrf

Mode = Literal["rrf", "score"]


@dataclass
class Hit:
    """What one store says about one chunk.

    Attributes:
        node: the store's own node; never changed.
        score: the store's score, None where it gave none.
        text: the chunk's own text; for bare triplets the triplets.
        worth: 2 for a chunk as it is, 1 for one whose text was rewritten, 0 for bare triplets.
        facts: statements that came with it.
        path: how the graph reached it, in the graph's own form; None where no graph did.
        notes: what else the store has to say about the search, such as a step left out for lack of time.
    """

    node: BaseNode
    score: float | None
    text: str
    worth: int
    facts: list[str] = field(default_factory=list)
    path: Any = None
    notes: list[str] = field(default_factory=list)


def preambles(retriever: BaseRetriever) -> tuple[str, ...]:
    """Return what a property-graph retriever writes in front of its facts; empty for every other retriever.

    Looks into ``PGRetriever`` and ``QueryFusionRetriever``. A retriever told to write none yields "".
    """
    if isinstance(retriever, BasePGRetriever):
        return (retriever._include_text_preamble or "",)
    inner = retriever.sub_retrievers if isinstance(retriever, PGRetriever) else getattr(retriever, "_retrievers", ())
    return tuple(dict.fromkeys(preamble for each in inner for preamble in preambles(each)))


def read_hits(nodes: Sequence[NodeWithScore], preambles: Sequence[str] = ()) -> dict[str, Hit]:
    """Group one store's nodes by the chunk they speak of, in the order of first mention.

    Args:
        nodes: as the store returned them, best first.
        preambles: of the store's retriever, see ``preambles``; none: no node is taken for a triplet.

    Returns:
        Chunk id to hit. Several triplets of one chunk are one hit.
    """
    hits: dict[str, Hit] = {}
    for found in nodes:
        chunk_id, hit = _read(found, preambles)
        known = hits.setdefault(chunk_id, hit)
        if known is not hit:
            hits[chunk_id] = _joined(known, hit)
    return hits


def merge(
    found: Mapping[str, Mapping[str, Hit]],
    *,
    mode: Mode,
    weights: Mapping[str, float],
    rrf_k: float,
    top_n: int,
    degraded: Sequence[str] = (),
) -> list[NodeWithScore]:
    """Fuse the stores' hits and build the answer's nodes.

    Args:
        found: store to chunk id to hit, best first.
        mode: "rrf" or "score", see ``fusion``.
        weights: store to weight.
        rrf_k: the k of rrf.
        top_n: how many nodes are kept.
        degraded: reasons why stores are missing; noted on every node when there are any.

    Returns:
        Copies, best first, with the fused score; ``metadata["hybridmem"]`` holds stores (name to rank and score), facts
        and path, and is kept out of what a language model or an encoder reads.
    """
    if mode == "rrf":
        fused = rrf({store: list(hits) for store, hits in found.items()}, weights, rrf_k)
    else:
        scores = {store: [(chunk_id, hit.score) for chunk_id, hit in hits.items()] for store, hits in found.items()}
        fused = by_score(scores, weights)
    return [_answer(hit, {store: found[store][hit.id] for store in hit.ranks}, degraded) for hit in fused[:top_n]]


def _read(found: NodeWithScore, preambles: Sequence[str]) -> tuple[str, Hit]:
    """Return the id of the chunk that a node speaks of, and what it says."""
    node, text = found.node, found.node.get_content()
    score = None if found.score is None else float(found.score)  # numpy's own floats are no JSON
    if preambles and (source_id := _triplet_source(node, text)) is not None:
        return source_id, Hit(node, score, text, 0, [text])
    facts, own_text = _split_facts(text, (*preambles, DEFAULT_PREAMBLE))
    noted = node.metadata.get(METADATA_KEY)
    noted = noted if isinstance(noted, Mapping) else {}
    facts = list(dict.fromkeys([*facts, *map(str, noted.get("facts") or ())]))
    path = copy.deepcopy(noted.get("path"))
    notes = list(map(str, noted.get("notes") or ()))
    return node.node_id, Hit(node, score, own_text, 2 if own_text == text else 1, facts, path, notes)


def _triplet_source(node: BaseNode, text: str) -> str | None:
    """Return the chunk that a bare triplet was read from; None for everything that is not surely a bare triplet.

    A cut document's chunk may well read "A -> B -> C", and its SOURCE is the document: but a splitter says so in the
    node type, and such a chunk has metadata as a rule. A triplet has neither.
    """
    source = node.relationships.get(NodeRelationship.SOURCE)
    if not isinstance(node, TextNode) or not _is_triplet(text) or set(node.metadata) - {TRIPLET_SOURCE_KEY}:
        return None
    if TRIPLET_SOURCE_KEY in node.metadata:
        return str(node.metadata[TRIPLET_SOURCE_KEY])
    return source.node_id if isinstance(source, RelatedNodeInfo) and source.node_type is None else None


def _is_triplet(text: str) -> bool:
    return text.count(" -> ") >= 2 and "\n" not in text


def _split_facts(text: str, preambles: Sequence[str]) -> tuple[list[str], str]:
    """Undo ``BasePGRetriever.add_source_text``: facts, a blank line, the chunk's own text."""
    for preamble in preambles:
        head, gap, own_text = text[len(preamble) :].partition("\n\n")
        facts = head.split("\n")
        if text.startswith(preamble) and gap and (preamble or all(map(_is_triplet, facts))):
            return facts, own_text
    return [], text


def _joined(known: Hit, other: Hit) -> Hit:
    """Return two mentions of one chunk by one store as one hit: the first's score, the better text, all the facts."""
    better = other if other.worth > known.worth else known
    facts = list(dict.fromkeys([*known.facts, *other.facts]))
    text = "\n".join(facts) if better.worth == 0 else better.text
    return Hit(
        better.node, known.score, text, better.worth, facts, known.path or other.path, known.notes or other.notes
    )


def _answer(merged: Fused, hits: Mapping[str, Hit], degraded: Sequence[str]) -> NodeWithScore:
    """Build one node of the answer from what the stores say about it."""
    best = max(hits.values(), key=lambda hit: hit.worth)  # the first among equals
    facts = list(dict.fromkeys(fact for hit in hits.values() for fact in hit.facts))
    note: dict[str, Any] = {
        "stores": {name: {"rank": merged.ranks[name], "score": hit.score} for name, hit in hits.items()},
        "facts": facts,
        "path": next((hit.path for hit in hits.values() if hit.path), None),
    }
    if notes := list(dict.fromkeys(line for hit in hits.values() for line in hit.notes)):
        note["notes"] = notes
    if degraded:
        note["degraded"] = list(degraded)
    text = "\n".join(facts) if best.worth == 0 else best.text
    return NodeWithScore(node=_copied(best.node, text, note), score=merged.score)


def _copied(node: BaseNode, text: str, note: dict[str, Any]) -> BaseNode:
    """Copy a node with everything in it that a caller might change, and note on the copy where it was found."""
    hidden = [METADATA_KEY]
    copied = node.model_copy(
        update={
            "metadata": {**copy.deepcopy(node.metadata), METADATA_KEY: note},
            "excluded_llm_metadata_keys": list(dict.fromkeys(node.excluded_llm_metadata_keys + hidden)),
            "excluded_embed_metadata_keys": list(dict.fromkeys(node.excluded_embed_metadata_keys + hidden)),
            "relationships": copy.deepcopy(node.relationships),
            "embedding": None if node.embedding is None else list(node.embedding),
        }
    )
    if text != node.get_content():
        copied.set_content(text)
    return copied
