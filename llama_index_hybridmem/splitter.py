"""Cuts LlamaIndex documents into nodes an encoder reads whole, title and section in front; knows nothing of stores."""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import default_id_func
from llama_index.core.schema import BaseNode, Document, MetadataMode, NodeRelationship, TextNode
from llama_index.core.utils import get_tqdm_iterable

from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.chunking import chunk, title_of, windows

logger = logging.getLogger(__name__)

TITLE = "title"
SECTION = "section"
_NODE_IDS = uuid.UUID("5d1f2f4e-8c4b-5f6e-9f0a-6b3a3c1e7a52")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")


@runtime_checkable
class CountsTokens(Protocol):
    """An encoder that can say how it reads a text, as `MiniLMEmbedding` can."""

    max_tokens: int

    def count_tokens(self, text: str) -> int:
        """Tokens of a text without the special ones."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each in characters."""


def estimate_tokens(text: str) -> int:
    """Tokens of a text for an encoder that cannot count them: 1.3 a word, or one per five bytes where words are long.

    English prose has about 1.3 word pieces a word and 6 bytes with the space; the bytes catch scripts without spaces.
    """
    return math.ceil(max(1.3 * len(text.split()), len(text.encode("utf-8", "replace")) / 5))


class StructureSplitter(NodeParser):
    """Documents to nodes along their structure: sections, then blocks, then sentences (`chunking.chunk`).

    A node's text is a verbatim slice of its document (``start_char_idx``, ``end_char_idx``). Its metadata are the
    document's and ``title`` (the document's, else what the text calls itself, else the file's name) and ``section``
    (``"DRAM > Refresh"``). These two stand in front of the text for the encoder and the LLM, the others for neither:
    bare, since ``title: `` cost MiniLM half a point of recall@5 on HotpotQA and MuSiQue. Node ids follow from document
    id and text, so that cutting the same document again gives the same nodes. No document is changed.

    Args:
        embed_model: counts the tokens, if it can; else they are estimated.
        count: counts them instead.
        max_tokens: per node, title and section included; 200 leaves room in the 256 word pieces that MiniLM reads.
    """

    max_tokens: int = Field(default=200, gt=0, description="Tokens of a node, title and section included.")
    counted_by: str = Field(default="estimate", description="Names what counts the tokens, for ingestion caches.")
    count: Callable[[str], int] = Field(default=estimate_tokens, exclude=True, description="Counts tokens.")

    def __init__(self, embed_model: BaseEmbedding | None = None, **fields: Any) -> None:
        counting: dict[str, Any] = {}
        if isinstance(embed_model, CountsTokens):
            counting = {"count": embed_model.count_tokens, "counted_by": embed_model.model_name}
        super().__init__(**(counting | fields))

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "StructureSplitter"

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **_: Any) -> list[BaseNode]:
        found: list[BaseNode] = []
        for document in get_tqdm_iterable(nodes, show_progress, "Splitting documents"):
            cut = self._split(document)
            if not cut:
                logger.warning("document %s has no text to split", document.node_id)
            found += cut
        return found

    async def _aparse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **_: Any) -> list[BaseNode]:
        return await in_thread(self._parse_nodes, nodes, show_progress)

    def _postprocess_parsed_nodes(self, nodes: list[BaseNode], parent_doc_map: dict[str, Document]) -> list[BaseNode]:
        """Links neighbours; LlamaIndex's own would look for each text again and take its first occurrence."""
        for before, after in pairwise(nodes):
            if self.include_prev_next_rel and before.ref_doc_id == after.ref_doc_id:
                before.relationships[NodeRelationship.NEXT] = after.as_related_node_info()
                after.relationships[NodeRelationship.PREVIOUS] = before.as_related_node_info()
        return nodes

    def _split(self, document: BaseNode) -> list[TextNode]:
        text = document.get_content(metadata_mode=MetadataMode.NONE)
        title = _title(document, text)
        above = [str(document.metadata[SECTION])] if document.metadata.get(SECTION) else []
        source = document.source_node or document.as_related_node_info()
        offset = getattr(document, "start_char_idx", None) or 0
        seen: Counter[str] = Counter()

        def context(sections: Sequence[str]) -> dict[str, str]:
            path = self._path([*above, *map(_plain, sections)], title)
            return {key: value for key, value in ((TITLE, title), (SECTION, path)) if value}

        def prefix(sections: Sequence[str]) -> str:
            return "\n".join(context(sections).values())

        found = []
        for ordinal, piece in enumerate(chunk(text, count=self.count, max_tokens=self.max_tokens, prefix=prefix)):
            seen[piece.text] += 1
            node = _node(document if self.include_metadata else None, piece.text, context(piece.sections))
            own_id = _node_id(source.node_id, piece.text, seen[piece.text])
            node.id_ = own_id if self.id_func is default_id_func else self.id_func(ordinal, document)
            node.relationships = {NodeRelationship.SOURCE: source}
            node.start_char_idx, node.end_char_idx = offset + piece.start, offset + piece.end
            found.append(node)
        return found

    def _path(self, names: list[str], title: str) -> str:
        """The section path without the title; at most a quarter of a node, the outermost headings go first."""
        names = [name for place, name in enumerate(names) if not (place == 0 and name == title)]
        while len(names) > 1 and self.count(" > ".join(names)) > self.max_tokens // 4:
            names = names[1:]
        path = " > ".join(names)
        if self.count(path) <= self.max_tokens // 4:
            return path
        return next((piece.text for piece in chunk(path, count=self.count, max_tokens=self.max_tokens // 4)), "")


def _node(document: BaseNode | None, text: str, context: dict[str, str]) -> TextNode:
    metadata = {**context, **(document.metadata if document else {}), **context}
    hidden = [key for key in metadata if key not in context]
    return TextNode(
        text=text,
        metadata=metadata,
        excluded_embed_metadata_keys=hidden,
        excluded_llm_metadata_keys=list(hidden),
        metadata_template="{value}",
        metadata_separator="\n",
        text_template="{metadata_str}\n{content}",
    )


def _node_id(document_id: str, text: str, occurrence: int) -> str:
    name = "\x1f".join((document_id, text, str(occurrence)))
    return str(uuid.uuid5(_NODE_IDS, name.encode("utf-8", "replace").decode("utf-8")))


def _title(document: BaseNode, text: str) -> str:
    given = str(document.metadata.get(TITLE) or "").strip()
    named = PurePath(str(document.metadata.get("file_name") or "")).stem
    return given or _plain(title_of(text) or "") or named


def _plain(heading: str) -> str:
    """A heading without links, images (a badge is an image in a link), emphasis and code marks."""
    bare = _LINK.sub(r"\1", _LINK.sub(r"\1", heading)).strip("*_` ")
    return bare or heading


def window_texts(node: BaseNode, embed_model: BaseEmbedding, *, size: int = 180, stride: int = 120) -> list[str]:
    """The texts whose vectors stand beside a node's own because the encoder cannot read the node whole.

    For nodes cut elsewhere: MiniLM reads 256 word pieces and would see a quarter of LlamaIndex's default chunk. A node
    scores as its best window.

    Args:
        node: as it will be stored; its EMBED content is what is read.
        embed_model: an encoder that counts tokens; of any other we cannot know what it reads.
        size: tokens per window.
        stride: tokens from one window's start to the next (180 and 120: chosen on glued documents, see the benchmark).

    Returns:
        One text per window, the title in front from the second on; none where the encoder reads the node whole.
    """
    if not isinstance(embed_model, CountsTokens):
        return []
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    offsets = embed_model.token_offsets(text)
    if len(offsets) <= embed_model.max_tokens - 2:  # the two special tokens
        return []
    first, *rest = [text[start:end] for start, end in windows(offsets, size, stride)]
    title = node.metadata.get(TITLE)
    return [first, *(f"{title}\n{window}" if title else window for window in rest)]
