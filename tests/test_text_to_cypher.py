"""Tests of the Cypher retriever, on a real Neo4j: what it finds, what it refuses, and that attacks change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from hypothesis import given, settings
from hypothesis import strategies as st
from injection_zoo import CYPHER, INDEXES, NAMES, READING
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from servers.neo4j.fixtures import not_here
from servers.neo4j.server import Neo4jAddress, Neo4jServer
from servers.ports import free_port

from llama_index_hybridmem.deadlines import seconds_left, within
from llama_index_hybridmem.errors import (
    AllStoresFailedError,
    ConfigurationError,
    CypherRefusedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
)
from llama_index_hybridmem.graph.cypher import FUNCTIONS, read_only
from llama_index_hybridmem.graph.cypher_rows import LIST_LIMIT, SCHEMA_LIMIT, TEXT_LIMIT, plain, schema_text, shown
from llama_index_hybridmem.graph.cypher_source import source_of
from llama_index_hybridmem.graph.stores.bolt import Bolt
from llama_index_hybridmem.graph.text_to_cypher import CypherRetriever
from llama_index_hybridmem.retriever import HybridRetriever
from llama_index_hybridmem.stores import Store

QUESTION = "Who founded Northwind?"
GRAPH = """
CREATE (mara:Person:Founder {name: 'Mara', born: 1940, embedding: [1.0, 0.0, 0.5], seen: date('2020-01-31')}),
       (per:Person {name: 'Per', born: 1951, note: 'SET it'}),
       (northwind:Company {name: 'Northwind', text: 'Makers of consoles', at: point({x: 1, y: 2})}),
       (mara)-[:FOUNDED {source: 'register', year: 1987}]->(northwind),
       (mara)-[:KNOWS]->(per), (per)-[:KNOWS]->(mara), (:`Odd Label` {x: true})
"""
FOUNDER = "MATCH (p:Person)-[r:FOUNDED]->(c:Company {name: 'Northwind'}) RETURN p.name AS founder, r.year AS year"
STATE = """
MATCH (n) OPTIONAL MATCH (n)-[r]->(m)
RETURN labels(n) AS labels, properties(n) AS held, type(r) AS type, properties(r) AS of, m.name AS to
ORDER BY labels, n.name, type, to
"""


@pytest.fixture(scope="module")
def server(neo4j_server: Neo4jAddress) -> Neo4jAddress:
    """A Neo4j with the canary graph; no test changes it, which is what they are about."""
    if not isinstance(neo4j_server, Neo4jServer) and os.environ.get("NEO4J_WIPE") != "1":
        not_here("the one at NEO4J_URI would be emptied; NEO4J_WIPE=1 says that it may be")
    neo4j_server.wipe()
    for statement in [*INDEXES, GRAPH, "CALL db.awaitIndexes()"]:
        neo4j_server.query(statement)
    return neo4j_server


@pytest.fixture
def bolt(server: Neo4jAddress) -> Iterator[Bolt]:
    """A line to it."""
    username, password = server.auth or (None, None)
    bolt = Bolt(server.uri, username=username, password=password, database=server.database, timeout_s=30)
    yield bolt
    bolt.close()


def asked(source: Any, *replies: str | Callable[[str], str], **settings: Any) -> tuple[CypherRetriever, ScriptedLLM]:
    """A retriever whose model writes these, one after the other, the last one for ever."""
    left = list(replies)

    def reply(prompt: str) -> str:
        said = left.pop(0) if len(left) > 1 else left[0]
        return said(prompt) if callable(said) else said

    llm = ScriptedLLM(reply=reply)
    return CypherRetriever(source, llm, **{"schema": "(:Person)", "timeout_s": 30.0, **settings}), llm


def texts(found: list[NodeWithScore]) -> list[str]:
    """What the nodes say."""
    return [one.node.get_content() for one in found]


def state(server: Neo4jAddress) -> str:
    """Everything in the database, its indexes, constraints and users."""
    parts = [
        STATE,
        "SHOW INDEXES YIELD name",
        "SHOW CONSTRAINTS YIELD name",
        "SHOW DATABASES YIELD name, currentStatus",
    ]
    return repr([server.query(part) for part in parts])


class Dictionaries(SimplePropertyGraphStore):
    """A property graph store that takes Cypher and hands back dictionaries, as LlamaIndex's Neo4j store does."""

    supports_structured_queries: bool = True

    def __init__(self, reply: Any) -> None:
        super().__init__()
        self.reply = reply
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def structured_query(self, query: str, param_map: dict[str, Any] | None = None) -> Any:
        """Remember and reply."""
        self.asked.append((query, dict(param_map or {})))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def get_schema_str(self, refresh: bool = False) -> str:
        """One label."""
        return "(:Thing)"


class Frozen(Dictionaries):
    """One whose server does not answer until it is thawed.

    Attributes:
        thawed: calls wait for it.
        error: raised when the schema is asked for.
        asked_for_schema: how often it was.
    """

    def __init__(self, reply: Any) -> None:
        super().__init__(reply)
        self.thawed = threading.Event()
        self.error: Exception | None = None
        self.asked_for_schema = 0

    def structured_query(self, query: str, param_map: dict[str, Any] | None = None) -> Any:
        """Wait, then reply."""
        self.thawed.wait()
        return super().structured_query(query, param_map)

    def get_schema_str(self, refresh: bool = False) -> str:
        """Wait, then describe."""
        self.asked_for_schema += 1
        self.thawed.wait()
        if self.error is not None:
            raise self.error
        return super().get_schema_str(refresh)


# What it finds


def test_a_question_is_answered_by_rows(bolt: Bolt) -> None:
    """Each row is a node that reads "column: value"; the query and the values are in its metadata."""
    retriever, llm = asked(bolt, f"```cypher\n{FOUNDER};\n```")
    [found] = retriever.retrieve(QUESTION)
    assert found.node.get_content() == "founder: Mara\nyear: 1987"
    assert found.score == 1.0
    assert found.node.metadata["row"] == {"founder": "Mara", "year": 1987}
    assert found.node.metadata["columns"] == ["founder", "year"]
    assert found.node.metadata["cypher"].startswith(FOUNDER)
    assert found.node.get_content(MetadataMode.LLM) == found.node.get_content()
    assert QUESTION in llm.prompts[0]
    assert "(:Person)" in llm.prompts[0]


async def test_it_answers_the_same_on_the_event_loop(bolt: Bolt) -> None:
    """One body for both: same nodes, same ids, and the loop runs on meanwhile."""
    retriever, _ = asked(bolt, FOUNDER)
    expected = await asyncio.to_thread(retriever.retrieve, QUESTION)
    assert await retriever.aretrieve(QUESTION) == expected


def test_the_question_is_a_parameter(bolt: Bolt) -> None:
    """Whatever a user writes reaches the server as a value; no text of the zoo changes the query."""
    retriever, _ = asked(bolt, "RETURN $question AS question")
    for name in NAMES:
        [found] = retriever.retrieve(QueryBundle(name))
        assert found.node.metadata["row"]["question"] == plain(name)


def test_half_a_character_in_a_question_does_no_harm(bolt: Bolt) -> None:
    """A lone surrogate, which no server takes, becomes a question mark."""
    retriever, _ = asked(bolt, "RETURN $question AS question")
    assert texts(retriever.retrieve("a\ud800b")) == ["question: a?b"]


def test_graph_values_are_readable_and_json(bolt: Bolt) -> None:
    """Nodes, relationships, paths, dates, points and durations; vectors are left out."""
    query = (
        "MATCH p = (a:Founder)-[r:FOUNDED]->(c) RETURN a, r, p, c.at AS at, duration('P1D') AS span, "
        "[x IN range(1, 100) | toFloat(x)] AS vector, a {.name, .seen} AS map, "
        "null AS nothing, true AS yes, [1, 2.5] AS l"
    )
    [found] = asked(bolt, query)[0].retrieve(QUESTION)
    lines = dict(line.split(": ", 1) for line in found.node.get_content().split("\n"))
    assert lines["a"].startswith("(:Founder:Person {born: 1940, ")
    assert lines["r"] == "[:FOUNDED {source: register, year: 1987}]"
    assert (
        lines["p"]
        == f"{lines['a']}-{lines['r']}->(:Company {{at: POINT(1.0 2.0), name: Northwind, text: Makers of consoles}})"
    )
    assert lines["at"] == "POINT(1.0 2.0)"
    assert lines["span"] == "P1D"
    assert lines["vector"] == "(100 numbers)"
    assert lines["map"] == "{name: Mara, seen: 2020-01-31}"
    assert (lines["nothing"], lines["yes"], lines["l"]) == ("null", "true", "[1, 2.5]")
    assert json.loads(json.dumps(found.node.metadata)) == found.node.metadata


def test_a_path_is_drawn_in_its_own_direction(bolt: Bolt) -> None:
    """A relationship that is walked backwards points backwards."""
    query = "MATCH p = (:Company)<-[:FOUNDED]-(:Founder)-[:KNOWS]->() RETURN [n IN nodes(p) | n.name] AS names, p"
    [found] = asked(bolt, query)[0].retrieve(QUESTION)
    assert found.node.metadata["row"]["names"] == ["Northwind", "Mara", "Per"]
    assert "})<-[:FOUNDED {" in found.node.metadata["row"]["p"]
    assert "})-[:KNOWS]->(" in found.node.metadata["row"]["p"]


def test_ids_are_stable_and_rows_are_told_apart(bolt: Bolt) -> None:
    """The same query and row, the same id, in whatever run; equal rows of one result remain several."""
    retriever, _ = asked(bolt, "UNWIND [1, 2, 2] AS x RETURN x")
    first, again = retriever.retrieve(QUESTION), retriever.retrieve("another question")
    assert [one.node.node_id for one in first] == [one.node.node_id for one in again]
    assert len({one.node.node_id for one in first}) == 3


def test_no_rows_are_no_nodes(bolt: Bolt) -> None:
    """An empty answer is an answer; the model is not asked again."""
    retriever, llm = asked(bolt, "MATCH (n:Nobody) RETURN n")
    assert retriever.retrieve(QUESTION) == []
    assert len(llm.prompts) == 1


@pytest.mark.parametrize(
    "query",
    [
        "UNWIND range(1, 100000) AS x RETURN x",
        "UNWIND range(1, 100000) AS x RETURN x LIMIT 90000",
        "UNWIND range(1, 50000) AS x RETURN x UNION ALL UNWIND range(1, 50000) AS x RETURN x",
    ],
)
def test_rows_are_limited_and_it_says_so(bolt: Bolt, query: str) -> None:
    """Whatever the query asks for, no more is handed back, and each node knows that there was more."""
    found = asked(bolt, query, row_limit=3)[0].retrieve(QUESTION)
    assert texts(found) == ["x: 1", "x: 2", "x: 3"]
    assert all(one.node.metadata["hybridmem"]["notes"] == ["cut at 3 rows"] for one in found)


def test_as_many_rows_as_the_limit_are_not_cut(bolt: Bolt) -> None:
    """The note is there only if something is missing."""
    found = asked(bolt, "UNWIND range(1, 3) AS x RETURN x", row_limit=3)[0].retrieve(QUESTION)
    assert [one.node.metadata["hybridmem"]["notes"] for one in found] == [[], [], []]


def test_it_is_a_store_of_the_hybrid_retriever(bolt: Bolt) -> None:
    """Its rows are fused with the others' nodes; a refused query degrades the answer and says why."""
    good, bad = asked(bolt, FOUNDER)[0], asked(bolt, "MATCH (n) DETACH DELETE n")[0]
    found = HybridRetriever([Store("cypher", good, deadline_s=60), Store("bad", bad, deadline_s=60)]).retrieve(QUESTION)
    assert texts(found) == ["founder: Mara\nyear: 1987"]
    assert found[0].node.metadata["row"] == {"founder": "Mara", "year": 1987}
    assert "CypherRefusedError" in found[0].node.metadata["hybridmem"]["degraded"][0]


# The schema


def test_the_schema_is_read_once_and_shown_to_the_model(bolt: Bolt) -> None:
    """Labels, properties with types, links and full-text indexes, without vectors and without APOC."""
    retriever, llm = asked(bolt, FOUNDER, schema=None)
    retriever.retrieve(QUESTION)
    retriever.retrieve(QUESTION)
    shown_schema = retriever.schema()
    assert all(shown_schema in prompt for prompt in llm.prompts)
    for line in (
        "(:Founder:Person {born: Long, name: String, seen: Date})",
        "(:`Odd Label` {x: Boolean})",
        "[:FOUNDED {source: String, year: Long}]",
        "[:KNOWS]",
        "(:Person)-[:FOUNDED]->(:Company)",
        "zoo_text (of [Person, Company], properties [name, text])",
    ):
        assert line in shown_schema.split("\n")
    assert "embedding" not in shown_schema


def test_a_schema_that_takes_too_long_is_read_as_names(bolt: Bolt) -> None:
    """Where the whole graph cannot be read in time, labels, types and property names have to do."""

    class Hurried(Bolt):
        def read(self, cypher: str, *arguments: Any, **keywords: Any) -> Any:
            if "TypeProperties" in cypher:
                raise StoreUnavailableError("too slow")
            return bolt.read(cypher, *arguments, **keywords)

    hurried = Hurried(bolt.uri)
    schema = asked(hurried, FOUNDER, schema=None)[0].schema()
    hurried.close()
    assert "(:`Odd Label`)" in schema
    assert "[:KNOWS]" in schema
    assert "Properties of any of these: " in schema


def test_names_still_fit_into_a_deadline_that_the_whole_graph_would_eat_up(bolt: Bolt) -> None:
    """Reading the graph has half of what a branch has left, so a schema is there, and stays for later questions."""
    had: list[float] = []

    class Endless(Bolt):
        def read(self, cypher: str, *arguments: Any, **keywords: Any) -> Any:
            if "TypeProperties" in cypher:
                had.append(seconds_left() or 0.0)
                raise StoreUnavailableError("did not answer within them")
            return bolt.read(cypher, *arguments, **keywords)

    endless = Endless(bolt.uri)
    retriever, _ = asked(endless, FOUNDER, schema=None)
    with within(60.0):
        schema = retriever.schema()
        assert retriever.schema() == schema
    endless.close()
    assert "[:KNOWS]" in schema
    assert len(had) == 1
    assert 0 < had[0] <= 30.0


def test_first_questions_at_once_read_the_schema_once() -> None:
    """The others wait for it, no longer than their own deadline; an error reaches all, and the next one tries again."""
    store = Frozen([{"a": 1}])
    retriever, _ = asked(store, "RETURN 1", schema=None)
    with ThreadPoolExecutor(8) as pool:
        schemas = [pool.submit(retriever.schema) for _ in range(8)]
        while store.asked_for_schema == 0:
            time.sleep(0.001)
        with within(0.05), pytest.raises(StoreUnavailableError, match="still being read"):
            retriever.schema()
        store.thawed.set()
        assert {one.result(30) for one in schemas} == {"(:Thing)"}
    assert store.asked_for_schema == 1
    store.error = OSError("gone")
    failing, _ = asked(store, "RETURN 1", schema=None)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            failing.schema()
    store.error = None
    assert failing.schema() == "(:Thing)"


def test_names_in_the_schema_cannot_break_out_of_it() -> None:
    """A label or property with backticks, braces or lines is written as one name; a long schema is cut."""
    rows = [([name], name, ["String"]) for name in NAMES if len(name) < 100]
    text = schema_text(rows, [], [])
    assert all(line.startswith("(:") for line in text.split("\n")[1:-2])
    huge = schema_text([([f"Label{number}"], "x", ["String"]) for number in range(10_000)], [], [])
    assert len(huge) < SCHEMA_LIMIT + 100
    assert huge.endswith(" more lines")


# What it refuses, and what it does about it


def test_no_attack_changes_anything(server: Neo4jAddress, bolt: Bolt) -> None:
    """Every query of the zoo, as a model would write it, is refused; the database is as before."""
    before = state(server)
    for attack in CYPHER:
        retriever, llm = asked(bolt, attack)
        with pytest.raises(CypherRefusedError):
            retriever.retrieve(QUESTION)
        assert len(llm.prompts) == 2
    assert state(server) == before


HARMLESS_ELSEWHERE = [
    attack
    for attack in CYPHER
    if 0 < len(attack) < 1_000
    and "\ud800" not in attack
    and not any(word in attack for word in ("apoc", "dbms", "tx.", "LOAD", "TERMINATE", "[*", "*]", "custom"))
]


def test_the_server_is_a_guard_of_its_own(server: Neo4jAddress, bolt: Bolt) -> None:
    """Were the judge to sleep, the server's own parser and the READ session would still let nothing be changed."""
    before = state(server)
    source = source_of(bolt, 30.0)
    for attack in HARMLESS_ELSEWHERE:
        with contextlib.suppress(CypherRefusedError, StoreError):
            source.run(attack, {"question": "Owned"}, 5)
    assert state(server) == before


def test_a_procedure_that_writes_is_refused_by_its_plan(server: Neo4jAddress, bolt: Bolt) -> None:
    """What a user wrongly allows is still refused where the server says that it writes."""
    allowed = {"db.createLabel", "apoc.create.node"}
    for query in ("CALL db.createLabel('Owned')", "CALL apoc.create.node(['Owned'], {}) YIELD node RETURN node"):
        retriever, _ = asked(bolt, query, procedures=allowed)
        with pytest.raises((CypherRefusedError, StoreError)):
            retriever.retrieve(QUESTION)
    assert server.query("MATCH (n:Owned) RETURN n") == []


def test_honest_queries_run(bolt: Bolt) -> None:
    """Every legitimate query of the zoo is one to the server, too."""
    for query in READING:
        assert asked(bolt, query)[0].retrieve("founded") is not None


# Neo4j 5.26 never answers a syntax error in a query with a character outside the first 65,536.
SHORT = [query for query in READING if max(query) <= "\uffff"]
PIECES = sorted({piece for query in (*READING, *CYPHER) if len(query) < 300 for piece in query.split(" ")})


def test_what_the_judge_lets_through_reads_to_the_server(bolt: Bolt) -> None:
    """An honest query with anything put into it is refused, an error, or of type "r" by the server's own plan."""

    @settings(max_examples=200)
    @given(st.sampled_from(SHORT), st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), st.integers(0, 30))
    def judged(query: str, pieces: list[str], at: int) -> None:
        words = query.split(" ")
        with contextlib.suppress(CypherRefusedError, StoreError):
            cypher = read_only(" ".join([*words[:at], *pieces, *words[at:]]), max_hops=None)
            types.append(bolt.ask(cypher, {"question": ""}, rows=1).does)

    types: list[str] = []
    judged()
    assert set(types) == {"r"}
    assert len(types) > 10


def test_a_failed_query_is_repaired_once(bolt: Bolt) -> None:
    """The model is shown its query and the server's own words, and asked again; the nodes say so."""
    retriever, llm = asked(bolt, "MATCH (p:Person RETURN p.name", FOUNDER)
    [found] = retriever.retrieve(QUESTION)
    assert found.node.metadata["hybridmem"]["notes"] == ["the query was corrected once it had failed"]
    assert "MATCH (p:Person RETURN p.name" in llm.prompts[1]
    assert "RETURN is no" in llm.prompts[1]
    assert QUESTION in llm.prompts[1]


async def test_a_servers_error_reaches_the_model_without_the_servers_address(bolt: Bolt) -> None:
    """The text of a syntax or type error is what helps; where the server is concerns nobody."""
    retriever, llm = asked(bolt, "MATCH (p:Person) RETURN q.name", FOUNDER)
    assert len(await retriever.aretrieve(QUESTION)) == 1
    assert "Variable `q` not defined" in llm.prompts[1]
    assert "127.0.0.1" not in llm.prompts[1]


@pytest.mark.parametrize(("reply", "kind"), [("I cannot.", CypherRefusedError), ("RETURN q", StoreError)])
def test_after_the_last_round_it_raises(bolt: Bolt, reply: str, kind: type[Exception]) -> None:
    """With `repair_rounds` used up, the last problem is the error."""
    for rounds in (0, 1, 3):
        retriever, llm = asked(bolt, reply, repair_rounds=rounds)
        with pytest.raises(kind):
            retriever.retrieve(QUESTION)
        assert len(llm.prompts) == rounds + 1


def test_a_query_that_takes_too_long_is_ended(bolt: Bolt) -> None:
    """The server has `timeout_s`, or what a branch has left; the model is not asked again for that."""
    slow = "UNWIND range(1, 1000000) AS a UNWIND range(1, 1000000) AS b RETURN sum(a * b) AS s"
    retriever, llm = asked(bolt, slow, timeout_s=0.5)
    with pytest.raises(StoreUnavailableError, match="0.5 s"):
        retriever.retrieve(QUESTION)
    patient, _ = asked(bolt, slow)
    with within(0.5), pytest.raises(StoreUnavailableError):
        patient.retrieve(QUESTION)
    assert len(llm.prompts) == 1


def test_a_server_that_is_away_is_no_reason_to_ask_again() -> None:
    """Nobody answers: one error, and one call of the model."""
    bolt = Bolt(f"bolt://127.0.0.1:{free_port()}", timeout_s=5)
    retriever, llm = asked(bolt, FOUNDER)
    with pytest.raises(StoreUnavailableError):
        retriever.retrieve(QUESTION)
    bolt.close()
    assert len(llm.prompts) == 1


# Property graph stores


def test_a_property_graph_store_is_asked_with_the_parameter() -> None:
    """Dictionaries become columns; the schema is the store's own."""
    store = Dictionaries([{"a": 1, "b": "x"}, {"a": 2}])
    retriever, llm = asked(store, "MATCH (n) RETURN n.a AS a, n.b AS b", schema=None)
    assert texts(retriever.retrieve(QUESTION)) == ["a: 1\nb: x", "a: 2\nb: null"]
    assert store.asked == [("MATCH (n) RETURN n.a AS a, n.b AS b\nLIMIT 51", {"question": QUESTION})]
    assert "(:Thing)" in llm.prompts[0]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [([[1, 2], [3]], ["column 1: 1\ncolumn 2: 2", "column 1: 3\ncolumn 2: null"]), ([5], ["column 1: 5"]), (None, [])],
)
def test_rows_without_names_are_numbered(reply: Any, expected: list[str]) -> None:
    """Stores that hand back lists, values or nothing are read, too."""
    assert texts(asked(Dictionaries(reply), "RETURN 1")[0].retrieve(QUESTION)) == expected


def test_no_attack_reaches_a_property_graph_store() -> None:
    """Its sessions may write, so the judge is all there is: nothing of the zoo gets past it."""
    store = Dictionaries([])
    for attack in CYPHER:
        with pytest.raises(CypherRefusedError):
            asked(store, attack)[0].retrieve(QUESTION)
    assert store.asked == []


def test_errors_of_a_property_graph_store_are_told_apart() -> None:
    """One about the query is worth another try; a lost server is not."""

    class ServerError(Exception):
        code = "Neo.ClientError.Statement.SyntaxError"

    for error, kind, calls in ((ServerError("no"), StoreError, 2), (OSError("gone"), StoreUnavailableError, 1)):
        retriever, llm = asked(Dictionaries(error), "RETURN 1")
        with pytest.raises(kind) as raised:
            retriever.retrieve(QUESTION)
        assert type(raised.value) is kind
        assert raised.value.__cause__ is error
        assert len(llm.prompts) == calls


@pytest.mark.parametrize(
    "code", ["Neo.ClientError.Security.Unauthorized", "Neo.ClientError.Security.AuthenticationRateLimit"]
)
def test_a_wrong_password_is_told_as_one(code: str) -> None:
    """Not as a server that is down, which would open the breaker; and the model is not asked again for it."""
    error = type("ClientError", (Exception,), {"code": code})("no")
    retriever, llm = asked(Dictionaries(error), "RETURN 1")
    with pytest.raises(StoreAccessError, match="Dictionaries refuses us"):
        retriever.retrieve(QUESTION)
    assert len(llm.prompts) == 1


def test_a_bug_of_a_property_graph_store_is_no_server_that_is_down() -> None:
    """A TypeError says nothing of the server: the breaker of the branch stays closed."""
    hybrid = HybridRetriever([Store("cypher", asked(Dictionaries(TypeError("odd")), "RETURN 1")[0], deadline_s=60)])
    for _ in range(5):
        with pytest.raises(AllStoresFailedError, match="StoreError: Dictionaries: TypeError: odd"):
            hybrid.retrieve(QUESTION)
    assert hybrid.health()["cypher"]["state"] == "closed"


@pytest.mark.parametrize("schema", ["(:Thing)", None])
def test_a_property_graph_store_that_hangs_is_left_behind(schema: str | None) -> None:
    """After `timeout_s`, also without a branch around it; a few threads at most wait for it, whatever is asked."""
    store = Frozen([{"a": 1}])
    retriever, _ = asked(store, "RETURN 1", schema=schema, timeout_s=0.05)
    for _ in range(4):
        with pytest.raises(StoreUnavailableError, match=r"Frozen did not answer within 0\.05 s"):
            retriever.retrieve(QUESTION)
    threads = [thread for thread in threading.enumerate() if thread.name == "hybridmem-Frozen"]
    with pytest.raises(StoreUnavailableError, match="Frozen skipped"):
        retriever.retrieve(QUESTION)
    assert len(threads) == 4
    store.thawed.set()
    for thread in threads:
        thread.join(30)
    patient, _ = asked(store, "RETURN 1", schema=schema)
    assert texts(patient.retrieve(QUESTION)) == ["a: 1"]


def test_a_property_graph_store_has_what_the_branch_has_left() -> None:
    """Where that is less than `timeout_s`."""
    store = Frozen([])
    with within(0.05), pytest.raises(StoreUnavailableError, match=r"within 0\.0"):
        asked(store, "RETURN 1")[0].retrieve(QUESTION)
    store.thawed.set()


async def test_the_neo4j_store_of_llamaindex_works(server: Neo4jAddress) -> None:
    """The same answers and repairs through `Neo4jPropertyGraphStore`."""
    stores = pytest.importorskip("llama_index.graph_stores.neo4j")
    username, password = server.auth or ("", "")
    store = stores.Neo4jPropertyGraphStore(
        username, password, server.uri, server.database, refresh_schema=False, create_indexes=False
    )
    try:
        retriever, llm = asked(store, "MATCH (p:Person) RETURN q", FOUNDER)
        assert texts(await retriever.aretrieve(QUESTION)) == ["founder: Mara\nyear: 1987"]
        assert "Variable `q` not defined" in llm.prompts[1]
    finally:
        store.close()
        await store._async_driver.close()  # which its own close forgets


# Settings


def test_prompts_can_be_seen_and_replaced(bolt: Bolt) -> None:
    """By `get_prompts` and `update_prompts`, as everywhere in LlamaIndex; or by `prompt=`."""
    retriever, llm = asked(bolt, FOUNDER, prompt=PromptTemplate("{schema}? {question}!"))
    assert set(retriever.get_prompts()) == {"text_to_cypher_template", "repair_template"}
    retriever.retrieve("{schema}")
    retriever.update_prompts(
        {"text_to_cypher_template": PromptTemplate("Only {question}"), "other": PromptTemplate("")}
    )
    retriever.retrieve("x")
    assert llm.prompts == ["(:Person)? {schema}!", "Only x"]


def test_what_cannot_work_is_said_at_once(bolt: Bolt) -> None:
    """A source without Cypher and numbers out of range, at construction; which waits for no server."""
    for source, settings_ in (
        (SimplePropertyGraphStore(), {}),
        ("bolt://127.0.0.1", {}),
        (bolt, {"row_limit": 0}),
        (bolt, {"repair_rounds": -1}),
        (bolt, {"timeout_s": 0}),
    ):
        with pytest.raises(ConfigurationError):
            asked(source, FOUNDER, **settings_)


def test_functions_of_plugins_may_be_allowed(bolt: Bolt) -> None:
    """Those that a user knows to read."""
    query = "RETURN apoc.text.capitalize('mara') AS name"
    with pytest.raises(CypherRefusedError, match="apoc.text.capitalize"):
        asked(bolt, query)[0].retrieve(QUESTION)
    retriever, _ = asked(bolt, query, functions=FUNCTIONS | {"apoc.text.capitalize"})
    assert texts(retriever.retrieve(QUESTION)) == ["name: Mara"]


def test_large_values_are_cut() -> None:
    """Long texts, lists and vectors do not flood a prompt; what JSON has no number for is a text."""
    assert len(shown("x" * 100_000)) == TEXT_LIMIT + 1
    assert plain(list(range(1_000)))[LIST_LIMIT:] == ["… 800 more"]
    assert plain({"a": [0.5] * 64, "b": [0.5] * 3}) == {"b": [0.5] * 3}
    assert shown([float("nan"), float("-inf"), b"abc", None]) == "[nan, -inf, (3 bytes), null]"
