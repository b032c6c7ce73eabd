"""The edge between LlamaIndex's nodes and passages: makes one of the other, both ways; knows no operator.

A passage is what a language model would see of a node: its text, and the metadata that its owner does not hide from
language models. What hybrid memory notes on a node (``metadata["hybridmem"]``) belongs to neither.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    Node,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from llama_index_hybridmem.events import METADATA_KEY
from llama_index_hybridmem.noise.scene import Passage

NOISE_KEY = "hybridmem_noise"
"""Where a node's metadata says what noise was injected; hidden from language and embedding models."""


def to_passage(node: BaseNode | NodeWithScore) -> Passage:
    """Read a node as a passage; the node stays as it is.

    Args:
        node: of any type; one without text gives a passage without text.

    Returns:
        its text without metadata; the metadata that a language model sees, as plain JSON values (a date as its text);
        as source the document that it was cut from, for a document itself its own id; its score, None where it has
        none or one that is no number.
    """
    found = node if isinstance(node, NodeWithScore) else None
    inner = node.node if isinstance(node, NodeWithScore) else node
    score = None if found is None or found.score is None else float(found.score)
    return Passage(
        inner.node_id,
        inner.get_content(),
        {name: _plain(inner.metadata[name]) for name in _visible(inner)},
        inner.node_id if isinstance(inner, Document) else inner.ref_doc_id,
        score if score is not None and math.isfinite(score) else None,
    )


def to_passages(nodes: Iterable[BaseNode | NodeWithScore]) -> tuple[Passage, ...]:
    """Read the nodes of one retrieval; one that is in it twice gets another id the second time: ``n1``, ``n1#2``."""
    passages = [to_passage(node) for node in nodes]
    count: dict[str, int] = {}
    for at, each in enumerate(passages):
        count[each.id] = seen = count.get(each.id, 0) + 1
        if seen > 1:
            passages[at] = Passage(f"{each.id}#{seen}", each.text, each.metadata, each.source, each.score)
    return tuple(passages)


def to_node(passage: Passage, original: NodeWithScore | None = None) -> NodeWithScore:
    """Give a passage as a node.

    Args:
        passage: the passage.
        original: the node that it was read from; it stays as it is. None: the passage was added.

    Returns:
        a copy that shares nothing that can be changed, with the passage's id, text, score and visible metadata; what
        is hidden from language models stays, and a value that the passage leaves alone keeps its type. Nodes that are
        not plain text (images, sounds) are handed back as they are: their text is not what a model would read.
    """
    if original is None:
        node = TextNode(id_=passage.id, text=passage.text, metadata=copy.deepcopy(dict(passage.metadata)))
        if passage.source is not None:
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=passage.source)
        return NodeWithScore(node=node, score=passage.score)
    if not is_text(original.node):
        return original
    return NodeWithScore(node=_copied(original.node, passage), score=passage.score)


def is_text(node: BaseNode) -> bool:
    """Whether a node is text and nothing else."""
    if isinstance(node, ImageNode):
        return False
    if isinstance(node, Node):
        return not (node.image_resource or node.audio_resource or node.video_resource)
    return isinstance(node, TextNode)


def _copied(node: BaseNode, passage: Passage) -> BaseNode:
    copied = node.model_copy(
        update={
            "id_": node.node_id if passage.id.startswith(f"{node.node_id}#") else passage.id,  # see `to_passages`
            "metadata": _metadata(node, passage),
            "excluded_llm_metadata_keys": [
                key for key in node.excluded_llm_metadata_keys if key not in passage.metadata
            ],
            "excluded_embed_metadata_keys": list(node.excluded_embed_metadata_keys),
            "relationships": copy.deepcopy(node.relationships),
            "embedding": None if node.embedding is None else list(node.embedding),
        }
    )
    if isinstance(copied, Node) or passage.text != node.get_content():
        copied.set_content(passage.text)  # a Node's text lies in an object of its own, which a copy would share
    return copied


def _metadata(node: BaseNode, passage: Passage) -> dict[str, Any]:
    """The node's metadata with the passage's in the place of what a model sees."""
    visible = set(_visible(node))
    merged = {}
    for name, value in node.metadata.items():
        if name not in visible and name not in passage.metadata:
            merged[name] = copy.deepcopy(value)
        elif name in passage.metadata:
            same = _plain(value) == passage.metadata[name]
            merged[name] = copy.deepcopy(value if same else passage.metadata[name])
    added = {name: copy.deepcopy(value) for name, value in passage.metadata.items() if name not in merged}
    return {**merged, **added}


def _visible(node: BaseNode) -> list[str]:
    hidden = {METADATA_KEY, *node.excluded_llm_metadata_keys}
    return [name for name in node.metadata if name not in hidden]


def _plain(value: Any) -> Any:
    """A value as JSON has it: containers inside out, everything else that JSON does not know as its text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value)
