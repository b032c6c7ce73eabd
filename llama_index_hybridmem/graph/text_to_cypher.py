"""Questions answered by a query that a language model writes, guarded; knows no Cypher and no database itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.graph_stores.types import PropertyGraphStore
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from ..branches import in_thread
from ..deadlines import seconds_left
from ..errors import ConfigurationError, CypherRefusedError, StoreError, StoreUnavailableError, told
from .cypher import ALLOWED, FUNCTIONS, MAX_HOPS, read_only
from .cypher_rows import as_json, plain, row_text
from .cypher_source import CypherSource, Table, source_of
from .stores.bolt import Bolt

logger = logging.getLogger(__name__)

METADATA_KEY = "hybridmem"
_PROBLEM_LIMIT = 1_000

_RULES = (
    "Write one Cypher query for Neo4j 5 that answers a question from a graph. Use the labels, types and properties of "
    "its schema, and clauses that read: MATCH, OPTIONAL MATCH, WHERE, WITH, UNWIND, RETURN, ORDER BY, SKIP, LIMIT, "
    "UNION, CALL of a subquery. Bound every path of variable length, as in [:KNOWS*1..3]. Compare names without regard "
    "to case. Return values under names that say what they are. The parameter $question holds the question's text. "
    "Answer with the query alone, without comments.\n\n"
    "Schema of the graph:\n{schema}\n\n"
    "Question: {question}\n"
)
TEXT_TO_CYPHER = PromptTemplate(_RULES + "Cypher: ")
REPAIR = PromptTemplate(
    _RULES + "This query was written for it:\n{cypher}\n\nIt cannot be used: {problem}\nCorrected Cypher: "
)


class CypherRetriever(BaseRetriever):
    """Has a language model write a query for the question, and runs it if it is certain to read only.

    What reaches the database has passed `graph.cypher.read_only`, an allow-list of clauses, functions and procedures.
    A `Bolt` then has the server explain the query, refuses all but type "r", and runs it in a READ session under a
    limit. A property graph store opens sessions of its own, which may write: there only the allow-list stands guard,
    the limit ends the waiting and not the query, and rows beyond `row_limit` are dropped once they are here.
    A guard in the client is never the last one. READ is a routing hint on a cluster, and a procedure that calls itself
    reading may not be. The guard that holds whatever is written is a database user that may only read (see
    docs/text-to-cypher.md), in a database that holds nothing this app's users must not see: no filter and no tenant is
    applied to what a query returns, and the text of documents in the graph may talk the model into asking for more.

    Each row is a node: "column: value" lines, with the query under `metadata["cypher"]`, the values under
    `metadata["row"]` as JSON can hold them. Vectors are left out. Rows answer the question as they are, so all score 1.

    Args:
        source: a `Bolt`, or a LlamaIndex property graph store with `supports_structured_queries`.
        llm: writes the query.
        schema: the graph's, as text; None (default): read once, from Neo4j's own procedures, without APOC. That reads
            the whole graph where the procedures do; give it for graphs of millions of nodes.
        prompt: with {schema} and {question}; `get_prompts()` gives it as "text_to_cypher_template".
        row_limit: rows handed back at most (default 50); a query that gives more is cut, and the nodes say so.
        timeout_s: seconds the server has for the query (default 10), less where a branch has less left.
        repair_rounds: how often the model is told what is wrong and asked again (default 1).
        procedures: those a query may call; see `graph.cypher.ALLOWED`.
        functions: those a query may call; see `graph.cypher.FUNCTIONS`.
        max_hops: longest path of variable length (default 10); None: no bound needed.
        callback_manager: LlamaIndex's.

    Raises:
        ConfigurationError: the source takes no Cypher, or a number is out of range.
    """

    needs_embedding = False
    """Tells `HybridRetriever` that a failed encoder does not fail this branch."""

    def __init__(
        self,
        source: Bolt | PropertyGraphStore,
        llm: LLM,
        *,
        schema: str | None = None,
        prompt: BasePromptTemplate | None = None,
        row_limit: int = 50,
        timeout_s: float = 10.0,
        repair_rounds: int = 1,
        procedures: Collection[str] = ALLOWED,
        functions: Collection[str] = FUNCTIONS,
        max_hops: int | None = MAX_HOPS,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        if row_limit < 1 or repair_rounds < 0 or timeout_s <= 0:
            raise ConfigurationError("row_limit is at least 1, repair_rounds at least 0, timeout_s above 0")
        self._source: CypherSource = source_of(source, timeout_s)
        self._llm = llm
        self._schema = schema
        self._reading: Future[str] | None = None  # the first reading of it, while under way
        self._lock = threading.Lock()  # guards the two, for moments only
        self._templates: dict[str, BasePromptTemplate] = {
            "text_to_cypher_template": prompt or TEXT_TO_CYPHER,
            "repair_template": REPAIR,
        }
        self._row_limit = row_limit
        self._repair_rounds = repair_rounds
        self._allowed: dict[str, Any] = {"procedures": procedures, "functions": functions, "max_hops": max_hops}

    def schema(self, *, refresh: bool = False) -> str:
        """Give the schema that the model is shown; read from the source when there is none yet, or on `refresh`.

        Raises:
            StoreError: it cannot be read.
            StoreUnavailableError: not within the caller's deadline.
        """
        if refresh:
            self._schema = self._source.schema()
        return self._schema if self._schema is not None else self._first_schema()

    def _first_schema(self) -> str:
        """Read it once, however many questions are the first; none waits longer than its own deadline says."""
        with self._lock:
            if self._schema is not None:
                return self._schema
            others, mine = self._reading, Future[str]()
            if others is None:
                self._reading = mine
        if others is not None:
            if not wait([others], seconds_left()).done:
                raise StoreUnavailableError("the graph's schema is still being read, for another question")
            return others.result()
        try:
            self._schema = self._source.schema()
            mine.set_result(self._schema)
        except BaseException as error:  # whoever waits gets it, too
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                self._reading = None
        return self._schema

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        turn = self._opening(query_bundle.query_str)
        while turn.nodes is None:
            turn = self._answered(turn, self._llm.predict(turn.template, **turn.values))
        return turn.nodes

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        turn = await in_thread(self._opening, query_bundle.query_str)
        while turn.nodes is None:
            turn = await in_thread(self._answered, turn, await self._llm.apredict(turn.template, **turn.values))
        return turn.nodes

    def _opening(self, question: str) -> _Turn:
        question = question.encode("utf-8", "replace").decode("utf-8")  # half a character could not be sent
        values = {"schema": self.schema(), "question": question}
        return _Turn(self._templates["text_to_cypher_template"], values, self._repair_rounds)

    def _answered(self, turn: _Turn, answer: str) -> _Turn:
        """Run what the model wrote, or ask it once more."""
        cypher = answer
        try:
            cypher = read_only(answer, limit=self._row_limit + 1, **self._allowed)
            table = self._source.run(cypher, {"question": turn.values["question"]}, self._row_limit + 1)
        except (CypherRefusedError, StoreError) as error:
            if type(error) not in (CypherRefusedError, StoreError) or not turn.rounds_left:
                raise  # another query would fare no better, or it was asked for already
            logger.info("the model is told what is wrong with its query: %s", _problem(error))
            values = {**turn.values, "cypher": cypher, "problem": _problem(error)}
            return _Turn(self._templates["repair_template"], values, turn.rounds_left - 1)
        notes = [f"cut at {self._row_limit} rows"] if len(table.rows) > self._row_limit else []
        notes += ["the query was corrected once it had failed"] if "problem" in turn.values else []
        return _Turn(turn.template, turn.values, 0, _nodes(cypher, table, self._row_limit, notes))

    def _get_prompts(self) -> PromptDictType:
        return dict(self._templates)

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._templates.update({name: prompt for name, prompt in prompts.items() if name in self._templates})


@dataclass(frozen=True)
class _Turn:
    """What the model is to be asked next, or what it all came to.

    Attributes:
        template: the prompt.
        values: its variables.
        rounds_left: how often it may be asked again after this.
        nodes: the answer; None while there is something to ask.
    """

    template: BasePromptTemplate
    values: dict[str, str]
    rounds_left: int
    nodes: list[NodeWithScore] | None = field(default=None)


def _problem(error: CypherRefusedError | StoreError) -> str:
    """Say what is wrong with a query; a server's own words, without where the server is."""
    text = error.problem if isinstance(error, CypherRefusedError) else told(error.__cause__ or error)
    return text[:_PROBLEM_LIMIT]


def _nodes(cypher: str, table: Table, limit: int, notes: list[str]) -> list[NodeWithScore]:
    """Make a node of each row. The same row of the same query has the same id, its double another."""
    seen: dict[str, int] = {}
    nodes = []
    for values in table.rows[:limit]:
        row = {column: plain(value) for column, value in zip(table.columns, values, strict=True)}
        key = as_json([cypher, row])
        seen[key] = seen.get(key, 0) + 1
        node = TextNode(
            id_=f"cypher-{sha256(f'{seen[key]} {key}'.encode()).hexdigest()[:32]}",
            text=row_text(row),
            metadata={"cypher": cypher, "columns": list(table.columns), "row": row, METADATA_KEY: {"notes": notes}},
        )
        node.excluded_llm_metadata_keys = node.excluded_embed_metadata_keys = list(node.metadata)
        nodes.append(NodeWithScore(node=node, score=1.0))
    return nodes
