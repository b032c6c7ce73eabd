"""Tests of the graph store on a Neo4j server: it equals the embedded one whatever happens, and touches nothing else."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fakes import WordsEmbedding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from injection_zoo import NAMES
from servers.neo4j.server import Neo4jAddress
from test_graph_store import ANY_NAME, STEPS, Expected, passage

from llama_index_hybridmem.errors import ConfigurationError, StoreClosedError, StoreError, StoreMismatchError
from llama_index_hybridmem.filters import Condition, Filter, Op, evaluate
from llama_index_hybridmem.graph.entities import normalise, words
from llama_index_hybridmem.graph.search import GraphSearch
from llama_index_hybridmem.graph.stores.base import Fact, GraphReads, Ids, Links, NameRule, Passage, Push
from llama_index_hybridmem.graph.stores.bolt import Bolt, Transaction
from llama_index_hybridmem.graph.stores.neo4j.schema import Schema, key_of, tenant_store
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore

STORE = "hybridmemtest"
TRIPS = {1: 10, 2: 17}
"""Round trips of a question by hops; most of them ask only for the passages handed back, their names and facts."""


def store_at(server: Neo4jAddress, store: str = STORE, **options: Any) -> Neo4jGraphStore:
    """A store of tests on a server that may be somebody's."""
    user, password = server.auth or (None, None)
    options = {"timeout_s": 60, **options}
    return Neo4jGraphStore(
        server.uri, username=user, password=password, database=server.database, store=store, **options
    )


@pytest.fixture(scope="module")
def schemas(neo4j_server: Neo4jAddress) -> Iterator[set[str]]:
    """The stores that tests made; their indexes and constraints are gone afterwards."""
    made = {STORE}
    yield made
    names = [name for store in made for name in Schema(store).index_names]
    there = "SHOW CONSTRAINTS YIELD name WHERE name IN $names RETURN name"
    for (name,) in neo4j_server.query(there, names=names):
        neo4j_server.query(f"DROP CONSTRAINT {name}")
    for name in names:
        neo4j_server.query(f"DROP INDEX {name} IF EXISTS")
    neo4j_server.query("MATCH (s:HybridmemStore) WHERE s.name IN $names DELETE s", names=list(made))
    for label in (label for store in made for label in Schema(store).labels.values()):
        neo4j_server.query(f"MATCH (x:{label}) DETACH DELETE x")


@pytest.fixture
def graph(neo4j_server: Neo4jAddress, schemas: set[str]) -> Iterator[Neo4jGraphStore]:
    """An empty store."""
    one = store_at(neo4j_server)
    one.clear()
    yield one
    if not one.bolt._closed:
        one.clear()
    one.close()


# -- the same as the embedded store -----------------------------------------------------------------------------------

CANDIDATES = [
    normalise(name)
    for name in ("New York", "York City", "New York City", "City", "Ada", "Ada film", "It", "İzmir", "the city", "2 GB")
]
TERMS = ["new", "york", "city", "ada", "izmir", "is", "in", "it", "of", "2", "gb", "the", "film", "nothing"]
STRICT = NameRule(max_df=3, min_case=0.4)


def pages(store: Any, size: int = 2) -> list[Passage]:
    """All passages, page by page."""
    found: list[Passage] = []
    while page := store.export_passages(found[-1].node_id if found else None, size):
        found += page
    return sorted(found, key=lambda one: one.node_id)


def told(store: Any) -> dict[str, Any]:
    """All that a store answers, with names in place of its own numbers."""
    passages = pages(store)
    numbers = store.passage_ids([one.node_id for one in passages])
    ids = np.asarray(list(numbers.values()), dtype=np.int64)
    names = store.find_names(CANDIDATES)
    name_ids = np.asarray([name.id for name in names.values()], dtype=np.int64)
    shown = {number: node_id for node_id, number in numbers.items()}
    named = {name.id: name.name for name in names.values()}
    linked = store.names_in(ids)
    named.update({link.name.id: link.name.name for links in linked.values() for link in links})

    def listed(links: Links) -> list[tuple[Any, ...]]:
        columns = links.passages.tolist(), links.names.tolist(), links.df.tolist(), links.titled.tolist()
        return sorted((shown[p], named[n], df, titled) for p, n, df, titled in zip(*columns, strict=True))

    return {
        "passages": passages,
        "stated": store.stated(),
        "names": {name.name: (name.df, name.case, name.given) for name in names.values()},
        "names in": {
            shown[number]: [(link.name.name, link.name.df, link.name.case, link.surface, link.titled) for link in links]
            for number, links in linked.items()
        },
        "of passages": [listed(store.links_of_passages(ids, rule)) for rule in (ANY_NAME, STRICT)],
        "of names": listed(store.links_of_names(name_ids)),
        "between": listed(store.links_between(ids, name_ids)),
        "facts": sorted(
            (str(fact), str(fact.node_id), fact.source, shown.get(number, ""))
            for fact, number in store.facts_about(name_ids, ids, 10)
        ),
        "ties": [
            sorted((named[one], named[other], df) for one, other, df in store.fact_links(name_ids, rule))
            for rule in (ANY_NAME, STRICT)
        ],
        "keywords": [
            [(node_id, round(score, 9)) for node_id, score in store.keyword_scores(terms, 10)]
            for terms in (["new", "york"], ["ada", "in", "it"], TERMS)
        ],
        "frequencies": store.document_frequencies(TERMS),
        "shares": (store.capital_share, store.long_share, store.passage_count),
        "counts": {key: count for key, count in store.stats().items() if key != "bytes"},
        "documents": {one: sorted(store.document_node_ids(one)) for one in store.documents()},
        "hashes": store.documents(),
        "sample": store.sample(4),
        "loaded": sorted((one.node_id, one.title, one.text, one.node) for one in store.load(ids).values()),
    }


def orphans(store: Neo4jGraphStore) -> int:
    """Names nobody declares, facts without their passage, words without a passage, wrong counts; all should be none."""
    cypher = (
        "CALL () { MATCH (n:<N>) WHERE n.uses < 1 AND NOT n.given RETURN count(n) AS names }"
        " CALL () { MATCH (f:<F>) WHERE f.passage <> 0 AND NOT EXISTS { (:<P>)-[:STATES]->(f) }"
        " RETURN count(f) AS facts }"
        " CALL () { MATCH (w:<W>) WHERE w.df < 1 RETURN count(w) AS words }"
        " CALL () { MATCH (n:<N>) WHERE n.df <> COUNT { (n)<-[:MENTIONS]-() } RETURN count(n) AS wrong }"
        " CALL () { MATCH (f:<F>) UNWIND [f.subject_key, f.object_key] AS key MATCH (n:<N> {key: key})"
        " WHERE NOT (f)-[:SUBJECT|OBJECT]->(n) RETURN count(*) AS untied }"
        " RETURN names + facts + words + wrong + untied"
    )
    return int(store.rows(cypher)[0][0])


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=3, max_size=9))
def test_after_any_changes_it_equals_the_embedded_store(
    graph: Neo4jGraphStore, neo4j_server: Neo4jAddress, steps: list[tuple[Any, ...]]
) -> None:
    """Adds, changes, deletes, stated names and facts, with the names in memory or looked up; again changes nothing."""
    embedded, expected = SqliteGraphStore(), Expected()
    for step in steps:
        expected.apply(step, embedded)
    asked = Neo4jGraphStore(graph.bolt, store=STORE, max_held_names=0)
    for store in (graph, asked):
        store.clear()
        for step in steps:
            Expected().apply(step, store)  # type: ignore[arg-type]
        assert told(store) == told(embedded)
        assert orphans(store) == 0
    version = graph.rows("MATCH (s:HybridmemStore {name: $store}) RETURN s.version", store=STORE)
    left = list(expected.passages.values())
    for store in (graph, asked):
        store.upsert(left[::-1])
        store.replace({one.doc_id for one in left}, left)
        store.delete(node_ids=["unknown"], doc_ids=["unknown"])
        store.add_names(expected.names)
        store.add_facts(expected.facts)
    assert graph.rows("MATCH (s:HybridmemStore {name: $store}) RETURN s.version", store=STORE) == version
    embedded.close()


PLACES = ["Umeå", "Mara Lindqvist", "Northwind", "Zephyr", "Halden Radio", "Orbit", "Tamsin", "Nuuk", "Oslo", "Rome"]
VERBS = ["founded", "console", "river", "maker", "sold", "music", "radio", "ship"]
PUSH = Push(tolerance=1e-4, damping=0.5, fact_share=0.2)
OPEN = Condition("open", Op.EQ, True)


def corpus(seed: int, count: int = 80) -> list[Passage]:
    """Passages with names in common, a third of them not open, some with facts."""
    chance = random.Random(seed)
    made = []
    for i in range(count):
        one, other, third = chance.sample(PLACES, 3)
        said = " ".join(chance.choices(VERBS, k=6))
        facts = (Fact(one, "knows", third, source="read"),) if i % 4 == 0 else ()
        fields: dict[str, Any] = {"facts": facts, "metadata": {"open": i % 3 > 0}, "lead": i % 2 == 0}
        made.append(passage(f"n{i:03}", f"so {one} {said} with {other} {i % 9}", third, f"d{i // 2}", **fields))
    return made


class Semantic:
    """Vectors of words, compared one by one."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.model = WordsEmbedding()
        self._vectors = {one.node_id: np.asarray(self.model.get_text_embedding(one.text)) for one in passages}
        self._passages = {one.node_id: one for one in passages}

    def search_dense(
        self, embedding: Sequence[float], top_k: int, filters: Filter | None = None
    ) -> list[tuple[str, float]]:
        """See `candidates.SemanticMemory`."""
        kept = [key for key, one in self._passages.items() if filters is None or evaluate(filters, one.metadata)]
        scores = self.score_dense(embedding, kept)
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))[:top_k]

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> list[tuple[str, float]]:
        """See `candidates.SemanticMemory`."""
        asked = set(words(text).texts)
        hits = [(key, float(len(asked & set(words(one.text).texts)))) for key, one in self._passages.items()
                if filters is None or evaluate(filters, one.metadata)]  # fmt: skip
        return sorted((hit for hit in hits if hit[1]), key=lambda hit: (-hit[1], hit[0]))[:top_k]

    def score_dense(self, embedding: Sequence[float], node_ids: Sequence[str]) -> dict[str, float]:
        """See `candidates.SemanticMemory`."""
        return {key: float(self._vectors[key] @ np.asarray(embedding)) for key in node_ids if key in self._vectors}


@dataclass
class Trips:
    """Counts what is asked of a server."""

    count: int = 0


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    """Reads from now on."""
    counted, read = Trips(), Bolt.read

    def counting(self: Bolt, *args: Any, **options: Any) -> Any:
        counted.count += 1
        return read(self, *args, **options)

    monkeypatch.setattr(Bolt, "read", counting)
    return counted


@pytest.mark.parametrize("vectors", [True, False])
def test_questions_are_answered_as_by_the_embedded_store(graph: Neo4jGraphStore, trips: Trips, vectors: bool) -> None:
    """Nodes, order, scores, paths and facts, with one hop and two, with and without a filter; and in few trips."""
    passages, embedded = corpus(1), SqliteGraphStore()
    for store in (graph, embedded):
        store.upsert(passages)
        store.add_names(["console"])
        store.add_facts([Fact("Zephyr", "bought", "Nuuk", source="user")])
    semantic = Semantic(passages)
    searches = [
        GraphSearch(store, semantic, semantic.model.get_text_embedding_batch) if vectors else GraphSearch(store)
        for store in (graph, embedded)
    ]
    chance, found, most = random.Random(2), 0, {1: 0, 2: 0}
    for turn in range(4):
        question = f"What did {chance.choice(PLACES)} do with the {chance.choice(VERBS)} of {chance.choice(PLACES)}?"
        embedding = semantic.model.get_query_embedding(question) if vectors else None
        keep = OPEN if turn % 2 else None
        for hops in (1, 2):
            trips.count = 0
            here, there = (each.search(question, embedding, hops=hops, keep=keep) for each in searches)
            most[hops] = max(most[hops], trips.count)
            found += len(here.found)
            for one, other in zip(here.found, there.found, strict=True):
                assert (one.passage.node_id, one.path, one.facts) == (other.passage.node_id, other.path, other.facts)
                assert one.score == pytest.approx(other.score, abs=1e-9)
    assert found > 40
    assert all(most[hops] <= TRIPS[hops] for hops in most), most
    embedded.close()


def test_keywords_of_a_large_store_are_ranked_as_in_the_embedded_one(graph: Neo4jGraphStore) -> None:
    """More passages have the words than are looked at: those that are scored are still the best."""
    chance = random.Random(3)
    passages = [
        passage(f"n{i:04}", " ".join(chance.choices(["alpha", "beta", "gamma", *VERBS, f"w{i % 50}"], k=12)))
        for i in range(900)
    ]
    embedded = SqliteGraphStore()
    for store in (graph, embedded):
        store.upsert(passages)
    for terms in (["alpha"], ["w7", "alpha"], ["w3", "w9", "beta", "gamma"]):
        here, there = graph.keyword_scores(terms, 10), embedded.keyword_scores(terms, 10)
        assert [score for _, score in here] == pytest.approx([score for _, score in there], abs=1e-9)
        assert here[0] == pytest.approx(there[0], abs=1e-9)
    embedded.close()


def test_a_view_answers_as_the_store_does(graph: Neo4jGraphStore) -> None:
    """Whatever was fetched ahead, for whichever passages, names, rules and filters somebody then asks."""
    passages = corpus(4)
    graph.upsert(passages)
    graph.add_facts([Fact("Zephyr", "bought", "Nuuk", source="user")])
    chance = random.Random(5)
    ids = list(graph.passage_ids([one.node_id for one in passages]).values())
    names = [name.id for name in graph.find_names(map(normalise, PLACES)).values()]
    rules = [ANY_NAME, STRICT, NameRule(30, 0.5)]
    for turn in range(2):
        keep = OPEN if turn % 2 else None
        view = graph.view(f"{chance.choice(PLACES)} and {chance.choice(PLACES)} of music", keep)
        for _ in range(2):
            some = np.asarray([*chance.sample(ids, 9), 10**9], dtype=np.int64)
            few = np.asarray([*chance.sample(names, 3), 10**9], dtype=np.int64)
            rule = chance.choice(rules)
            mass = {number: chance.random() for number in chance.sample(ids, 5)}
            view.foresee_walk(mass, dict.fromkeys(few.tolist(), 0.3), chance.sample(names, 2), rule, PUSH)
            view.foresee_reading(some[:5])
            check_view(view, graph, some, few, chance.choice(rules), keep)
            check_view(view, graph, some, few, rule, OPEN if keep is None else None)


def check_view(view: GraphReads, plain: GraphReads, ids: Ids, names: Ids, rule: NameRule, keep: Filter | None) -> None:
    """Each read of the one equals that of the other."""

    def links(found: Links) -> list[tuple[int, ...]]:
        return sorted(zip(*(column.tolist() for column in vars(found).values()), strict=True))

    node_ids = [*plain.node_ids(ids).values(), "unknown", "\ud800"]
    terms, candidates = ["music", "radio", "of", "unknown"], [normalise(name) for name in (*PLACES, "unknown")]
    assert view.find_names(candidates) == plain.find_names(candidates)
    assert view.passage_ids(node_ids, keep) == plain.passage_ids(node_ids, keep)
    assert view.node_ids(ids) == plain.node_ids(ids)
    assert links(view.links_of_passages(ids, rule)) == links(plain.links_of_passages(ids, rule))
    assert links(view.links_of_names(names, keep)) == links(plain.links_of_names(names, keep))
    assert links(view.links_between(ids, names)) == links(plain.links_between(ids, names))
    assert view.names_in(ids) == plain.names_in(ids)
    assert view.load(ids) == plain.load(ids)
    assert view.facts_about(names, ids, 3) == plain.facts_about(names, ids, 3)
    assert view.fact_links(names, rule, keep) == plain.fact_links(names, rule, keep)
    assert view.keyword_scores(terms, 5, keep) == plain.keyword_scores(terms, 5, keep)
    assert view.document_frequencies(terms) == plain.document_frequencies(terms)
    assert view.sample(5) == plain.sample(5)
    for share in ("passage_count", "capital_share", "long_share"):
        assert getattr(view, share) == getattr(plain, share)


def test_an_empty_store_answers_everything_with_nothing(graph: Neo4jGraphStore) -> None:
    """Also before its schema was ever made, and through a view."""
    none = np.zeros(0, dtype=np.int64)
    for store in (graph, graph.view("anything", None)):
        assert (store.passage_count, store.capital_share, store.long_share) == (0, 1.0, 0.0)
        assert store.documents() == {}
        assert store.sample(5) == []
        assert store.keyword_scores(["x"], 5) == []
        assert store.links_of_passages(none, ANY_NAME).passages.tolist() == []
        assert store.facts_about(none, none, 5) == []
    assert set(graph.stats().values()) == {0}
    assert graph.export_passages(None, 5) == []
    assert graph.stated() == ([], [])
    never = Neo4jGraphStore(graph.bolt, store="hybridmemtest_never")
    assert GraphSearch(never).search("Who founded Northwind?").found == []


# -- text is text -----------------------------------------------------------------------------------------------------


def others(server: Neo4jAddress) -> list[list[Any]]:
    """All nodes and relations of the database that are not of our stores."""
    cypher = (
        "MATCH (n) WHERE none(x IN labels(n) WHERE x STARTS WITH 'Hybridmem') OPTIONAL MATCH (n)-[r]->(m)"
        " RETURN elementId(n), labels(n), properties(n), type(r), properties(r), elementId(m) ORDER BY 1, 6"
    )
    return server.query(cypher)


@pytest.fixture
def canary(neo4j_server: Neo4jAddress) -> Iterator[list[list[Any]]]:
    """Somebody else's graph in the same database."""
    neo4j_server.query("CREATE (:Canary {id: 1, key: 'a', name: 'ada'})-[:MENTIONS {total: 1}]->(:Canary:Name {id: 2})")
    yield others(neo4j_server)
    neo4j_server.query("MATCH (n:Canary) DETACH DELETE n")


def test_whatever_is_written_comes_back_as_it_was_or_is_refused(
    graph: Neo4jGraphStore, neo4j_server: Neo4jAddress, canary: list[list[Any]]
) -> None:
    """Cypher, Lucene, control characters and the rest, in every place where a text can be; others' data stay."""
    kept = [text for text in NAMES if "\0" not in text]
    passages = [
        Passage(
            f"id {text}", f"doc {text}", text, f"{text} and so Ada", metadata={text: text, "k": [text, i]},
            names=tuple(name for name in [normalise(text)] if name), node=text, doc_hash=text,
            facts=(Fact(text, text, "Ada", f"id {text}", text),),
        )
        for i, text in enumerate(kept)
    ]  # fmt: skip
    embedded = SqliteGraphStore()
    for store in (graph, embedded):
        store.upsert(passages)
        store.add_names(kept)
        store.add_facts([Fact(text, "is", text, source=text) for text in kept])
    assert pages(graph, 50) == pages(embedded, 50)
    assert graph.stated() == embedded.stated()
    assert graph.documents() == {f"doc {text}": text for text in kept}
    names = [*NAMES, *map(normalise, NAMES)]
    assert graph.find_names(names).keys() == embedded.find_names(names).keys()
    for terms in [set(found) for text in NAMES if (found := words(text).texts)][::2]:
        scored, wanted = (dict(store.keyword_scores(terms, 99)) for store in (graph, embedded))
        assert scored == pytest.approx(wanted, abs=1e-9)
    for text in NAMES[::3]:
        for keep in (Condition(text, Op.EQ, text), Condition("k", Op.TEXT_MATCH, text)):
            left = [store.passage_ids([one.node_id for one in passages], keep).keys() for store in (graph, embedded)]
            assert left[0] == left[1]
        graph.view(text, Condition(text, Op.NE, text))
    graph.delete(node_ids=[f"id {text}" for text in kept[::2]], doc_ids=[f"doc {text}" for text in NAMES[1::2]])
    graph.delete(doc_ids=[f"doc {text}" for text in NAMES])
    assert graph.passage_count == 0
    assert others(neo4j_server) == canary
    embedded.close()


@pytest.mark.parametrize(
    "bad",
    [
        Passage("a\0b", "d", "", "Bob"), Passage("b", "d\0", "", "Bob"), Passage("b", "d", "", "half a \ud800 letter"),
        Passage("b\udfff", "d", "", "Bob"), Passage("b", "d", "", "Bob", metadata={"k": "\ud800"}),
    ],
    ids=["NUL in a node id", "NUL in a document id", "half a character", "in an id", "in metadata"],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_all_that_came_along(graph: Neo4jGraphStore, bad: Passage) -> None:
    """One error that says what it is about; the store is as before, and goes on."""
    graph.upsert([passage("a", "Ada met Bob")])
    before = told(graph)
    with pytest.raises(StoreError, match="NUL|surrogate"):
        graph.upsert([passage("good", "so Cid met Bob"), bad])
    assert told(graph) == before
    graph.delete(node_ids=[bad.node_id], doc_ids=[bad.doc_id + "x"])
    assert told(graph) == before


def test_pages_hold_every_passage_once_whatever_their_ids(graph: Neo4jGraphStore) -> None:
    """Order and comparison of ids are the same to the server, also beyond 16 bits, for long ids and for none at all."""
    odd = " a \ue000 \ufb03 \uffff \U00010400 \U0001f600 é"
    ids = [*odd.split(" "), " ", "x" * 600, "x" * 601, "x" * 64 + "y"]
    graph.upsert([Passage(one, "d", "", "text") for one in ids])
    assert [one.node_id for one in pages(graph, 1)] == sorted(ids)
    assert sorted(graph.sample(99)) == sorted(ids)


ODD = [float("nan"), float("inf"), 2**63, -(2**63), 10**400, None, {"a": 1}, [1, None, "x"], "\0", b"x"]


def test_odd_metadata_does_not_fail_an_ingest(graph: Neo4jGraphStore) -> None:
    """Numbers that the server does not have, nothing and nested things: stored as the embedded store does."""
    embedded = SqliteGraphStore()
    passages = [passage(f"n{i}", "Ada", metadata={"k": value}) for i, value in enumerate(ODD)]
    for store in (graph, embedded):
        store.upsert(passages)
    for op, value in ((Op.GT, 0), (Op.EQ, 2**63), (Op.IS_EMPTY, None), (Op.IN, (1, "x", 10**400))):
        ids, keep = [one.node_id for one in passages], Condition("k", op, value)
        assert graph.passage_ids(ids, keep).keys() == embedded.passage_ids(ids, keep).keys()
    embedded.close()


PLAIN = {"null", "true", "NaN", "NOT", "CON", "doc_id", "document_id", "ref_doc_id", "_".join("ab"), "a" * 63}


@pytest.mark.parametrize("name", [*NAMES, *sorted(PLAIN - set(NAMES)), "", "_a", "1a", "a" * 64, "a-b", "ä", "a\n"])
def test_a_stores_name_is_a_plain_word_and_a_tenants_is_anything(name: str) -> None:
    """The store's becomes part of statements and is refused; the tenant's is hashed."""
    if name in PLAIN:
        assert Schema(name).labels["N"] == f"HybridmemName_{name}"
    else:
        with pytest.raises(ConfigurationError, match="letters, digits and underscores"):
            Schema(name)
    if name.strip():
        assert Schema(tenant_store("main", name)).labels["P"].startswith("HybridmemPassage_main_")


def test_different_tenants_never_share_a_store() -> None:
    """However alike their names are, also with those of stores."""
    names = [
        name for name in dict.fromkeys([*NAMES, "acme", "Acme", "acme ", "ACME", "acmé", "acme\u200b"]) if name.strip()
    ]
    assert len({tenant_store("main", name) for name in names}) == len(names)
    assert tenant_store("a", "b_c") != tenant_store("a_b", "c")


def test_a_key_is_never_another_texts_key() -> None:
    """Long texts are found by a hash; a text that looks like such a key has one of its own."""
    long = "x" * 600
    assert len(key_of(long).encode()) < 512
    assert len({key_of(long), key_of(key_of(long)), key_of(long + "x"), key_of("x" * 64)}) == 4


def test_others_graphs_and_stores_stay_as_they_are(
    graph: Neo4jGraphStore, neo4j_server: Neo4jAddress, canary: list[list[Any]], schemas: set[str]
) -> None:
    """Writing, deleting and clearing one store; a store whose name begins alike is another."""
    alike = store_at(neo4j_server, f"{STORE}_2")
    schemas.add(f"{STORE}_2")
    alike.upsert([passage("a", "so Ada met Bob"), passage("b", "Bob met Cid", "Rome")])
    before = told(alike)
    graph.upsert([passage("a", "so Ada met Dan"), passage("c", "Bob met Cid", "Rome")])
    graph.add_names(["so"])
    assert told(alike) == before
    graph.delete(doc_ids=["doc"])
    graph.clear()
    assert told(alike) == before
    assert others(neo4j_server) == canary
    alike.clear()
    alike.close()


# -- several at once --------------------------------------------------------------------------------------------------


def failures(work: Callable[[], object]) -> list[Exception]:
    """What a thread ended with, if it failed."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  # a thread's failure must reach the test
        return [error]
    return []


def together(threads: Sequence[threading.Thread]) -> None:
    """Starts threads and waits for them."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def half(graph: Neo4jGraphStore, node_ids: Sequence[str]) -> list[int]:
    """How many names each passage of a document has, where it is neither missing nor whole: three with three each."""
    numbers = graph.passage_ids(node_ids)
    linked = [len(links) for links in graph.names_in(np.fromiter(numbers.values(), dtype=np.int64)).values()]
    return [] if linked in ([], [3, 3, 3]) else linked


def test_stores_of_several_processes_take_turns(graph: Neo4jGraphStore, neo4j_server: Neo4jAddress) -> None:
    """Each with a connection and a dictionary of its own; meanwhile nobody sees half a document."""
    batches = [
        [passage(f"n{i}-{j}", f"so Other{j} met Name{i} in New York", f"Name{i}", f"d{i}") for j in range(3)]
        for i in range(12)
    ]
    stores = [store_at(neo4j_server) for _ in range(3)]
    done = threading.Event()
    wrong: list[object] = []

    def write(place: int) -> None:
        def write_all() -> None:
            for batch in batches[place::3]:
                stores[place].replace([batch[0].doc_id], batch)

        wrong.extend(failures(write_all))

    def read() -> None:
        while not done.is_set():
            wrong.extend(torn for i in range(12) if (torn := half(graph, [f"n{i}-{j}" for j in range(3)])))

    writers = [threading.Thread(target=write, args=(place,)) for place in range(3)]
    reader = threading.Thread(target=read)
    reader.start()
    together(writers)
    done.set()
    reader.join()
    assert wrong == []
    check_against(graph, [one for batch in batches[::-1] for one in batch])
    for store in stores:
        store.close()


def check_against(graph: Neo4jGraphStore, passages: Sequence[Passage]) -> None:
    """It equals an embedded store that these were written to at once."""
    embedded = SqliteGraphStore()
    embedded.upsert(passages)
    assert told(graph) == told(embedded)
    assert orphans(graph) == 0
    embedded.close()


def test_more_writers_than_connections_wait_for_each_other(graph: Neo4jGraphStore, neo4j_server: Neo4jAddress) -> None:
    """A write takes a second connection for its searches: writers that wait must not hold all there are."""
    narrow = store_at(neo4j_server, max_connection_pool_size=3, connection_acquisition_timeout=20)
    narrow.upsert([passage("first", "so name0 and name1")])
    wrong: list[Exception] = []

    def write(number: int) -> None:
        wrong.extend(failures(lambda: narrow.upsert([passage(f"n{number}", "text", f"Name{number}")])))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    together(writers)
    narrow.close()
    assert wrong == []
    assert graph.passage_count == 9
    assert graph.find_names(["name0"])["name0"].df == 2


def test_the_first_writers_may_come_at_once(neo4j_server: Neo4jAddress, schemas: set[str]) -> None:
    """Both find no schema and make it."""
    name = f"{STORE}_first"
    schemas.add(name)
    stores = [store_at(neo4j_server, name) for _ in range(2)]
    wrong: list[Exception] = []

    def write(place: int) -> None:
        wrong.extend(failures(lambda: stores[place].upsert([passage(f"n{place}", "so Ada met Bob")])))

    writers = [threading.Thread(target=write, args=(place,)) for place in range(2)]
    together(writers)
    assert wrong == []
    assert stores[0].find_names(["ada"])["ada"].df == 2
    stores[0].clear()
    for store in stores:
        store.close()


def test_an_error_in_the_middle_takes_the_batch_back(graph: Neo4jGraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it strikes; the names in memory do not run ahead of those in the store."""
    graph.upsert([passage("a", "so Ada met Bob")])
    before, run = told(graph), Transaction.run
    for last in range(2, 14, 3):
        calls = iter(range(last))

        def failing(self: Transaction, *args: Any, calls: Iterator[int] = calls) -> Any:
            if next(calls, None) is None:
                raise ZeroDivisionError
            return run(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "run", failing)
            with pytest.raises(ZeroDivisionError):
                graph.replace(["doc"], [passage("b", "so Ada met Cid", "Rome"), passage("a", "so Bob met Cid")])
        assert told(graph) == before
    graph.upsert([passage("c", "so cid met Bob in rome")])
    check_against(graph, [passage("c", "so cid met Bob in rome"), passage("a", "so Ada met Bob")])


# -- a store's life ---------------------------------------------------------------------------------------------------


def test_another_version_of_the_schema_is_refused(graph: Neo4jGraphStore, neo4j_server: Neo4jAddress) -> None:
    """What a later version wrote is not written to."""
    graph.upsert([passage("a", "Ada")])
    neo4j_server.query("MATCH (s:HybridmemStore {name: $name}) SET s.schema = 99", name=STORE)
    with pytest.raises(StoreMismatchError, match="schema 99"):
        graph.upsert([passage("b", "Bob")])
    neo4j_server.query("MATCH (s:HybridmemStore {name: $name}) SET s.schema = 1", name=STORE)
    assert graph.passage_count == 1


def test_a_store_cleared_by_another_process_is_seen_as_empty(
    graph: Neo4jGraphStore, neo4j_server: Neo4jAddress
) -> None:
    """The dictionary in memory is not taken for that of the new content; numbers are not given twice."""
    other = store_at(neo4j_server)
    graph.upsert([passage("a", "so Ada met Bob")])
    before = graph.passage_ids(["a"])["a"]
    other.clear()
    other.upsert([passage("b", "so Cid met Dan")])
    graph.upsert([passage("c", "so Cid met ada, so cid met bob")])
    assert graph.find_names(["ada", "bob", "cid"]).keys() == {"cid"}
    assert min(graph.passage_ids(["b", "c"]).values()) > before
    assert graph.sample(5) == other.sample(5) == ["b", "c"]
    other.close()


def test_a_closed_store_says_so(neo4j_server: Neo4jAddress) -> None:
    """Reading and writing; a tenant's store lives and ends with the connection it shares."""
    graph = store_at(neo4j_server)
    tenant = graph.tenant("acme")
    tenant.close()
    assert graph.rows("RETURN 1") == [[1]]
    graph.close()
    graph.close()
    for store in (graph, tenant):
        for call in (store.stats, lambda store=store: store.upsert([]), lambda store=store: store.view("x", None)):
            with pytest.raises(StoreClosedError, match="closed"):
                call()
