"""Turns LlamaIndex nodes into passages and back, and LlamaIndex's graph objects into facts; touches no store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from llama_index.core.graph_stores.types import (
    KG_NODES_KEY,
    KG_RELATIONS_KEY,
    KG_SOURCE_REL,
    TRIPLET_SOURCE_KEY,
    ChunkNode,
    EntityNode,
    LabelledNode,
    PropertyGraphStore,
    Relation,
)
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from ..filters import visible_fields
from .entities import Extractor, declared_names
from .stores.base import Fact, Passage, StoredPassage

M = TypeVar("M", EntityNode, Relation)

TITLE_KEY = "title"
_OURS = frozenset({KG_NODES_KEY, KG_RELATIONS_KEY, "hybridmem"})
_BATCH = 500


def to_passage(
    node: BaseNode, *, use_titles: bool = True, extract: Extractor | None = None, long: bool = False
) -> Passage:
    """Read a node as a passage of the graph.

    Args:
        node: left as it is. Its text is read without metadata; `metadata["title"]` is its title. Entities and relations
            that one of LlamaIndex's `kg_extractors` left in its metadata become facts.
        use_titles: whether titles are names.
        extract: proposes names for a text in place of capitalised spans.
        long: whether it is longer than the encoder reads.
    """
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    title = str(node.metadata.get(TITLE_KEY) or "") if use_titles else ""
    lead = node.prev_node is None
    metadata = {key: value for key, value in node.metadata.items() if key not in _OURS}
    return Passage(
        node_id=node.node_id,
        doc_id=node.ref_doc_id or node.node_id,
        title=title,
        text=text,
        names=tuple(declared_names(text, title if lead else "", extract)),
        metadata=visible_fields(metadata, node.ref_doc_id),
        facts=tuple(_extracted_facts(node)),
        node=_serialised(node),
        doc_hash=(node.source_node.hash or "") if node.source_node else "",
        long=long,
        lead=lead,
    )


def to_node(stored: StoredPassage) -> BaseNode:
    """Rebuild the node a passage was read from, a new object each time; without one stored, a TextNode."""
    if not stored.node:
        return TextNode(
            id_=stored.node_id, text=stored.text, metadata={TITLE_KEY: stored.title} if stored.title else {}
        )
    return metadata_dict_to_node(json.loads(stored.node), text=stored.text)


def facts_from_property_graph(graph: PropertyGraphStore) -> list[Fact]:
    """Read every relation of an existing property graph as facts, with the chunk each came from where that is known.

    LlamaIndex keeps the chunk on the relation, or one per entity on the entity itself; the relation's is believed
    first.
    """
    ids = [node.id for node in graph.get() if not isinstance(node, ChunkNode)]
    facts: dict[tuple[str, str, str, str | None], Fact] = {}
    for start in range(0, len(ids), _BATCH):
        for subject, relation, target in graph.get_triplets(ids=ids[start : start + _BATCH]):
            if KG_SOURCE_REL in (relation.label,) or isinstance(subject, ChunkNode) or isinstance(target, ChunkNode):
                continue
            chunk = relation.properties.get(TRIPLET_SOURCE_KEY) or subject.properties.get(TRIPLET_SOURCE_KEY)
            fact = Fact(_name(subject), relation.label, _name(target), chunk, "property graph")
            facts[(fact.subject, fact.relation, fact.object, chunk)] = fact
    return list(facts.values())


def _extracted_facts(node: BaseNode) -> Iterable[Fact]:
    """Read what a `kg_extractors` left, as objects or as the dicts that a pipeline's cache makes of them.

    Relations of the node itself (`ImplicitPathExtractor`: its source, the next node) say nothing about names.
    """
    entities = [_read(EntityNode, entity) for entity in node.metadata.get(KG_NODES_KEY) or () if _is_named(entity)]
    names = {entity.id: entity.name for entity in entities}
    for relation in (_read(Relation, found) for found in node.metadata.get(KG_RELATIONS_KEY) or ()):
        if node.node_id not in (relation.source_id, relation.target_id):
            subject = names.get(relation.source_id, relation.source_id)
            target = names.get(relation.target_id, relation.target_id)
            yield Fact(subject, relation.label, target, node.node_id, "kg_extractors")


def _read(kind: type[M], found: M | Mapping[str, Any]) -> M:
    return kind.model_validate(found) if isinstance(found, Mapping) else found


def _is_named(entity: LabelledNode | Mapping[str, Any]) -> bool:
    return "name" in entity if isinstance(entity, Mapping) else isinstance(entity, EntityNode)


def _name(entity: LabelledNode) -> str:
    return str(getattr(entity, "name", entity.id))


def _serialised(node: BaseNode) -> str:
    payload: dict[str, Any] = node_to_metadata_dict(without_graph(node), remove_text=True)
    return json.dumps({key: payload[key] for key in ("_node_content", "_node_type")}, ensure_ascii=False)


def without_graph(node: BaseNode) -> BaseNode:
    """Give a node without extracted entities and relations: objects that JSON cannot hold; facts keep what they say."""
    if _OURS.isdisjoint(node.metadata):
        return node
    return node.model_copy(update={"metadata": {k: v for k, v in node.metadata.items() if k not in _OURS}})
