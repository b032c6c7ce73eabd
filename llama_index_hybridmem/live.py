"""A live source: a function, SQL query or API call as a LlamaIndex retriever; knows nothing of the other stores.

What it returns is read at the time of the question: it is stamped with that time, and neither embedded nor cached.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode

from .branches import Call, in_thread, run
from .errors import RetrievalError

READ_AT_KEY = "read_at"  # metadata key of the time a node was read, ISO 8601

Item: TypeAlias = str | Mapping[str, Any] | BaseNode | NodeWithScore
Items: TypeAlias = Sequence[Item] | Item | None


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class LiveSource(BaseRetriever):
    """Asks a function each time.

    Args:
        function: question to what was found, best first; sync or async. An item is a text, a node with or without a
            score, or a mapping: with ``text`` (and perhaps ``id``, ``score``, ``metadata``; other keys join the
            metadata), or any row, whose columns become the lines "column: value". One item alone, or None, will do.
        name: enters the ids of nodes made here, so that one text of one source has one id.
        clock: tells the time of reading (default: now, in UTC).
        callback_manager: LlamaIndex's.
    """

    needs_embedding = False

    def __init__(
        self,
        function: Callable[[str], Items | Awaitable[Items]],
        *,
        name: str = "live",
        clock: Callable[[], datetime] = _utc_now,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self._function = function
        self._name = name
        self._clock = clock
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._function(query_bundle.query_str)
        if inspect.isawaitable(found):
            awaitable = found
            # On a thread of its own: this one may have a running loop.
            outcome = run({self._name: Call(lambda: asyncio.run(_awaited(awaitable)))})[self._name]
            if outcome.error is not None:
                raise outcome.error
            found = outcome.value
        return self._stamped(found)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if inspect.iscoroutinefunction(self._function):
            found = await self._function(query_bundle.query_str)
        else:
            found = await in_thread(self._function, query_bundle.query_str)
        return self._stamped(await found if inspect.isawaitable(found) else found)

    def _stamped(self, found: Items) -> list[NodeWithScore]:
        """Return fresh nodes that carry the time of reading."""
        read_at = self._clock().isoformat()
        if found is None:
            found = []
        elif isinstance(found, (str, Mapping, BaseNode, NodeWithScore)):
            found = [found]
        scored = [self._node(item) for item in found]
        return [NodeWithScore(node=_with_time(each.node, read_at), score=each.score) for each in scored]

    def _node(self, item: Item) -> NodeWithScore:
        if isinstance(item, NodeWithScore):
            return item
        if isinstance(item, BaseNode):
            return NodeWithScore(node=item)
        if isinstance(item, str):
            return NodeWithScore(node=TextNode(id_=self._id(item), text=item))
        if not isinstance(item, Mapping):
            raise RetrievalError(
                f"live source {self._name!r} returned a {type(item).__name__}, no text, mapping or node"
            )
        return self._row(dict(item)) if "text" not in item else self._document(dict(item))

    def _document(self, item: dict[str, Any]) -> NodeWithScore:
        text, score = str(item.pop("text")), item.pop("score", None)
        node_id = str(item.pop("id", None) or self._id(text))
        metadata = {**(item.pop("metadata", None) or {}), **item}
        return NodeWithScore(node=TextNode(id_=node_id, text=text, metadata=metadata), score=score)

    def _row(self, row: dict[str, Any]) -> NodeWithScore:
        text = "\n".join(f"{column}: {value}" for column, value in row.items())
        plain = (str, int, float, bool, type(None))
        metadata = {str(column): value if isinstance(value, plain) else str(value) for column, value in row.items()}
        columns = list(metadata)  # already in the text
        node = TextNode(
            id_=self._id(text),
            text=text,
            metadata=metadata,
            excluded_llm_metadata_keys=columns,
            excluded_embed_metadata_keys=columns,
        )
        return NodeWithScore(node=node)

    def _id(self, text: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._name}\0{text}"))


async def _awaited(awaitable: Awaitable[Items]) -> Items:
    return await awaitable


def _with_time(node: BaseNode, read_at: str) -> BaseNode:
    return node.model_copy(
        update={
            "metadata": {**copy.deepcopy(node.metadata), READ_AT_KEY: read_at},
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, READ_AT_KEY],
            "embedding": None,
        }
    )
