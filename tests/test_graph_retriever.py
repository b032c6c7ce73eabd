"""Tests of the graph retriever alone: two hops with the real encoder, reasons, filters, and what fails softly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import BrokenEmbedding, WordsEmbedding
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    SimpleVectorStore,
    VectorStoreQuery,
)

from llama_index_hybridmem.encoder import MiniLMEmbedding
from llama_index_hybridmem.errors import ConfigurationError, FilterError, StoreClosedError
from llama_index_hybridmem.filters import Condition, Filter, Op
from llama_index_hybridmem.graph.entities import terms
from llama_index_hybridmem.graph.nodes import to_passage
from llama_index_hybridmem.graph.retriever import EntityGraphRetriever
from llama_index_hybridmem.graph.search import GraphSearch
from llama_index_hybridmem.graph.semantic import semantic_memory
from llama_index_hybridmem.graph.stores.base import Fact
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.vector.store import QdrantEdgeVectorStore

# The question names the Zephyr; only its page names the maker; only the maker's page names the founder.
QUESTION = "Who founded the company behind the Zephyr console?"
TEXTS = {
    "zephyr": ("Zephyr", "The Zephyr is a handheld game console of 1994. Its maker was Northwind Devices."),
    "northwind": (
        "Northwind Devices",
        "Mara Lindqvist began Northwind Devices in 1987, in a disused sawmill near Umeå.",
    ),
    "umea": ("Umeå", "Umeå lies on a river in the north of Sweden and has a large university."),
    "orbit": ("Orbit", "The Orbit is a home game console that reads cartridges of 4 MB."),
    "pixel": ("Pixel Forge", "Pixel Forge published forty racing games for the Orbit and two for arcades."),
    "founders": ("Startups", "Whoever founded a company remembers the first console table they worked at."),
    "halden": ("Halden Radio", "Per Halden founded Halden Radio, a company that sold valve receivers until 1961."),
    "kite": ("Kite", "A kite flies on the wind; a zephyr is a gentle one."),
    "screen": ("Screens", "Early handheld screens were dim, and players held them under a lamp."),
    "battery": ("Batteries", "Four batteries kept a handheld alive for six hours; colour halved that."),
    "cartridge": ("Cartridges", "A cartridge holds read-only memory and sometimes a small battery for saved games."),
    "river": ("Sawmills", "Sawmills stood along rivers, which carried the logs and turned the blades."),
}


def nodes_of(texts: dict[str, tuple[str, str]]) -> list[TextNode]:
    """One node per text, by its key."""
    return [TextNode(id_=key, text=text, metadata={"title": title, "key": key}) for key, (title, text) in texts.items()]


class Memory:
    """A graph and a vector store over the same nodes."""

    def __init__(self, texts: dict[str, tuple[str, str]], embed_model: BaseEmbedding, vector_store: Any = None) -> None:
        nodes = nodes_of(texts)
        self.embed_model = embed_model
        self.graph = SqliteGraphStore()
        self.graph.upsert([to_passage(node) for node in nodes])
        self.vectors = vector_store or QdrantEdgeVectorStore()
        contents = [node.get_content(MetadataMode.EMBED) for node in nodes]
        vectors = embed_model.get_text_embedding_batch(contents)
        self.vectors.add([node.model_copy(update={"embedding": v}) for node, v in zip(nodes, vectors, strict=True)])

    def retriever(self, **fields: Any) -> EntityGraphRetriever:
        """The whole retriever, unless told otherwise."""
        parts: dict[str, Any] = {"vector_store": self.vectors, "embed_model": self.embed_model, "similarity_top_k": 4}
        return EntityGraphRetriever(self.graph, **(parts | fields))


def ids(found: Sequence[NodeWithScore]) -> list[str]:
    """The order alone."""
    return [one.node.node_id for one in found]


def why(found: Sequence[NodeWithScore], node_id: str) -> dict[str, Any]:
    """The reasons given for one node."""
    return next(dict(one.node.metadata["hybridmem"]) for one in found if one.node.node_id == node_id)


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    """The texts above, under the real encoder and the real engine."""
    both = Memory(TEXTS, MiniLMEmbedding())
    yield both
    both.vectors.close()


@pytest.fixture
def words() -> SqliteGraphStore:
    """The texts above in a graph alone."""
    store = SqliteGraphStore()
    store.upsert([to_passage(node) for node in nodes_of(TEXTS)])
    return store


# -- two hops ---------------------------------------------------------------------------------------------------------


def test_the_answer_is_found_though_it_shares_no_word_with_the_question(memory: Memory) -> None:
    """The maker's page stands behind the console's: vectors put others before it, the path says how it was found."""
    assert not set(terms(QUESTION)) & set(terms(" ".join(TEXTS["northwind"])))
    nearest = memory.vectors.search_dense(memory.embed_model.get_query_embedding(QUESTION), 2)
    assert "northwind" not in [node_id for node_id, _ in nearest]
    found = memory.retriever().retrieve(QUESTION)
    assert set(ids(found)[:2]) == {"zephyr", "northwind"}
    assert why(found, "zephyr")["path"] == {"from": "question", "names": ["Zephyr"]}
    assert why(found, "northwind")["path"] == {"from": "zephyr", "title": "Zephyr", "names": ["Northwind Devices"]}
    assert why(found, "northwind")["notes"] == []


@pytest.mark.parametrize(
    "parts", [{"hops": 1}, {"vector_store": None, "embed_model": None}], ids=["one hop", "words alone"]
)
def test_the_first_walk_alone_finds_it_and_says_how(memory: Memory, parts: dict[str, Any]) -> None:
    """With one hop, or without any vector, the walk over names still leads there, and the path is shown."""
    found = memory.retriever(**parts).retrieve(QUESTION)
    assert {"zephyr", "northwind"} <= set(ids(found))
    assert why(found, "northwind")["path"] == {"from": "zephyr", "title": "Zephyr", "names": ["Northwind Devices"]}


@pytest.mark.parametrize("spelled", [str.lower, str.upper])
def test_questions_need_no_capitals(memory: Memory, spelled: Callable[[str], str]) -> None:
    """The same nodes in the same order, with the same scores."""
    asked = memory.retriever().retrieve(QUESTION)
    typed = memory.retriever().retrieve(spelled(QUESTION))
    assert ids(typed) == ids(asked)
    assert [one.score for one in typed] == pytest.approx([one.score for one in asked], abs=1e-4)


def test_a_corpus_without_capitals_keeps_its_graph() -> None:
    """Where nothing is capitalised, names are not taken for common words: the case filter stands aside."""
    store = SqliteGraphStore()
    store.upsert(
        [to_passage(node) for node in nodes_of({key: (a.lower(), b.lower()) for key, (a, b) in TEXTS.items()})]
    )
    assert store.capital_share == 0.0
    assert GraphSearch(store).rule().min_case == 0.0
    found = EntityGraphRetriever(store, similarity_top_k=4).retrieve(QUESTION)
    assert {"zephyr", "northwind"} <= set(ids(found))


def test_common_words_tie_nothing_where_there_are_capitals(words: SqliteGraphStore) -> None:
    """Pages titled "Batteries" or "Screens" are words: their lower-case mentions carry no mass."""
    rule = GraphSearch(words).rule()
    assert rule.min_case == 0.5
    names = words.find_names(["northwind devices", "batteries", "kite"])
    assert [rule.admits(names[name]) for name in ("northwind devices", "batteries", "kite")] == [True, False, False]


async def test_async_gives_the_same(memory: Memory) -> None:
    """`aretrieve` is `retrieve` on a thread of its own."""
    assert await memory.retriever().aretrieve(QUESTION) == memory.retriever().retrieve(QUESTION)


def test_scores_fall_with_the_rank(memory: Memory) -> None:
    """Whoever sorts by score gets the order of the retriever."""
    scores = [one.score or 0.0 for one in memory.retriever(similarity_top_k=12).retrieve(QUESTION)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 12


def test_any_vector_store_of_llamaindex_will_do() -> None:
    """One that has neither keywords nor exact scores: the graph's own words and its plain query stand in."""
    simple = Memory(TEXTS, WordsEmbedding(), SimpleVectorStore())
    found = simple.retriever().retrieve(QUESTION)
    assert {"zephyr", "northwind"} <= set(ids(found))
    assert why(found, "zephyr")["notes"] == []
    kept = simple.retriever(filters=Condition("key", Op.NE, "zephyr")).retrieve(QUESTION)
    assert "zephyr" not in ids(kept)
    assert why(kept, ids(kept)[0])["notes"] == []


def test_a_plain_vector_store_searches_within_the_filter_and_scores_the_given_nodes() -> None:
    """Not the nearest of all cut down afterwards."""
    simple = Memory(TEXTS, WordsEmbedding(), SimpleVectorStore())
    view = semantic_memory(simple.vectors, simple.graph)
    vector = simple.embed_model.get_query_embedding(" ".join(TEXTS["kite"]))
    assert [node_id for node_id, _ in view.search_dense(vector, 1)] == ["kite"]
    assert [node_id for node_id, _ in view.search_dense(vector, 1, Condition("key", Op.EQ, "river"))] == ["river"]
    scores = view.score_dense(vector, ["river", "umea"])
    assert scores.keys() == {"river", "umea"}
    assert view.score_dense(vector, []) == {}


def test_what_is_no_vector_store_is_refused(words: SqliteGraphStore) -> None:
    """At construction, by name."""
    with pytest.raises(ConfigurationError, match="not str"):
        EntityGraphRetriever(words, vector_store="qdrant")


def test_equal_passages_are_ordered_alike_however_the_store_was_filled() -> None:
    """Sums differ in the last digit by the order of names in the store; ties do not hang on it."""
    nodes = [TextNode(id_=f"n{i}", text=f"we saw Rome, Oslo, Ada and Bob in {1900 + i // 3}") for i in range(9)]
    answers = []
    for order in (nodes, nodes[::-1], nodes[4:] + nodes[:4]):
        store = SqliteGraphStore()
        for node in order:
            store.upsert([to_passage(node)])
        answers.append(ids(EntityGraphRetriever(store).retrieve("Ada or Oslo in 1901")))
    assert answers[0] == answers[1] == answers[2]


# -- what comes back --------------------------------------------------------------------------------------------------


def test_nodes_are_whole_and_their_reasons_hidden_from_models(words: SqliteGraphStore) -> None:
    """The node as it was put in, plus reasons that neither LLM nor encoder is shown; changing it changes nothing."""
    retriever = EntityGraphRetriever(words, similarity_top_k=1)
    node = retriever.retrieve("Zephyr")[0].node
    original = nodes_of(TEXTS)[0]
    assert node.get_content(MetadataMode.LLM) == original.get_content(MetadataMode.LLM)
    assert node.get_content(MetadataMode.EMBED) == original.get_content(MetadataMode.EMBED)
    assert {key: value for key, value in node.metadata.items() if key != "hybridmem"} == original.metadata
    node.metadata.clear()
    assert retriever.retrieve("Zephyr")[0].node.metadata["key"] == "zephyr"


def test_facts_are_shown_with_the_passage_they_come_from(words: SqliteGraphStore) -> None:
    """Statements read from a passage stand with it, stated ones about the question's names with the best."""
    zephyr, *_ = nodes_of(TEXTS)
    read = Fact("Zephyr", "was made by", "Northwind Devices")
    words.upsert([to_passage(zephyr)])
    words.replace(["zephyr"], [replace(to_passage(zephyr), facts=(read,))])
    words.add_facts([Fact("Zephyr", "came out in", "the spring")])
    found = EntityGraphRetriever(words).retrieve(QUESTION)
    assert why(found, "zephyr")["facts"] == [str(read), "Zephyr → came out in → the spring"]
    assert why(found, "northwind")["facts"] == []


def _with(passage: Any, fact: Fact) -> Any:
    return type(passage)(
        **{**{name: getattr(passage, name) for name in passage.__dataclass_fields__}, "facts": (fact,)}
    )


def test_a_stated_fact_leads_to_passages_that_nothing_else_leads_to(words: SqliteGraphStore) -> None:
    """The user says who sells the Orbit; no text does. The seller's page is found, and the fact is the path."""
    question = "Who sells the Orbit?"
    assert "halden" not in ids(EntityGraphRetriever(words).retrieve(question))
    words.add_facts([Fact("Orbit", "is sold by", "Halden Radio", source="shop.csv")])
    found = EntityGraphRetriever(words).retrieve(question)
    path = {"from": "question", "names": ["Halden Radio"], "facts": ["Orbit → is sold by → Halden Radio"]}
    assert why(found, "halden")["path"] == path


def test_a_name_that_no_passage_has_leads_on_over_facts(words: SqliteGraphStore) -> None:
    """A product code of the user's, in no text, stands for what he says it stands for."""
    assert EntityGraphRetriever(words).retrieve("KX-17") == []
    words.add_facts([Fact("KX-17", "is the code of", "Prototype Q"), Fact("Prototype Q", "became", "Zephyr")])
    assert "zephyr" in ids(EntityGraphRetriever(words).retrieve("KX-17"))


def test_a_path_never_goes_in_circles() -> None:
    """What led to a passage stands before it: the first has no path, and is not explained by the one it led to."""
    store = SqliteGraphStore()
    texts = {"mill": "a mill drawn by Ada Byron", "notes": "notes by Ada Byron", "else": "a river", "more": "a bridge"}
    store.upsert([to_passage(TextNode(id_=key, text=text)) for key, text in texts.items()])
    found = EntityGraphRetriever(store).retrieve("who drew the mill?")
    assert ids(found) == ["mill", "notes"]
    assert why(found, "mill")["path"] is None
    assert why(found, "notes")["path"] == {"from": "mill", "title": "", "names": ["Ada Byron"]}


def test_more_than_a_hundred_nodes_can_be_asked_for() -> None:
    """The pool grows with `similarity_top_k`."""
    store = SqliteGraphStore()
    texts = [f"we saw {'Rome' if i % 2 else 'Oslo'} and Name{i}" for i in range(150)]
    store.upsert([to_passage(TextNode(id_=f"n{i:03}", text=text)) for i, text in enumerate(texts)])
    for count in (3, 130):
        assert len(EntityGraphRetriever(store, similarity_top_k=count).retrieve("Rome and Oslo")) == count


@pytest.mark.parametrize("question", ["", "?!", "the of and", "xyzzy plugh", "\0", "a" * 10_000, "Rome " * 3000])
def test_questions_without_anything_known_find_nothing(question: str, words: SqliteGraphStore) -> None:
    """No error, no division by zero; an empty store is no different."""
    assert EntityGraphRetriever(words).retrieve(question) == []
    assert EntityGraphRetriever(SqliteGraphStore()).retrieve(question) == []


# -- filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    [
        Condition("key", Op.NE, "zephyr"),
        MetadataFilters(filters=[MetadataFilter(key="key", value=["zephyr"], operator=FilterOperator.NIN)]),
        {"condition": "not", "filters": [{"key": "key", "value": "zephyr"}]},
    ],
)
def test_a_filtered_out_node_carries_no_mass(words: SqliteGraphStore, filters: object) -> None:
    """The only way to the maker leads over the console's page: with that page hidden, the maker is out of reach."""
    assert "northwind" in ids(EntityGraphRetriever(words).retrieve(QUESTION))
    found = ids(EntityGraphRetriever(words, filters=filters).retrieve(QUESTION))
    assert found
    assert not {"zephyr", "northwind"} & set(found)


def test_a_fact_of_a_filtered_out_node_carries_no_mass(words: SqliteGraphStore) -> None:
    """Nor is it shown."""
    secret = to_passage(TextNode(id_="secret", text="hush", metadata={"secret": True}))
    words.upsert([replace(secret, facts=(Fact("Orbit", "is sold by", "Halden Radio"),))])
    keep = Condition("secret", Op.IS_EMPTY)
    assert "halden" in ids(EntityGraphRetriever(words).retrieve("Orbit"))
    found = EntityGraphRetriever(words, filters=keep).retrieve("Orbit")
    assert not {"halden", "secret"} & set(ids(found))
    assert not [fact for one in found for fact in why([one], one.node.node_id)["facts"]]


def test_a_filtered_out_node_appears_in_neither_hop(memory: Memory) -> None:
    """With vectors everything is near to something: what is hidden stays hidden, in seeds, walk and second hop."""
    for hidden in ("zephyr", "northwind"):
        found = memory.retriever(filters=Condition("key", Op.NE, hidden), similarity_top_k=12).retrieve(QUESTION)
        assert set(ids(found)) == TEXTS.keys() - {hidden}
    only = memory.retriever(filters=Condition("key", Op.EQ, "kite")).retrieve(QUESTION)
    assert ids(only) == ["kite"]


class Deaf(SimpleVectorStore):
    """A vector store that takes filters and ignores them."""

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> Any:
        """Search among everything."""
        return super().query(replace(query, filters=None), **kwargs)


def test_a_vector_store_that_ignores_filters_lets_nothing_through() -> None:
    """The graph knows every node's metadata, and asks itself."""
    deaf = Memory(TEXTS, WordsEmbedding(), Deaf())
    found = deaf.retriever(filters=Condition("key", Op.NE, "zephyr"), similarity_top_k=12).retrieve(QUESTION)
    assert found
    assert "zephyr" not in ids(found)


def test_a_bad_filter_is_refused_at_construction(words: SqliteGraphStore) -> None:
    """Not at the first question."""
    with pytest.raises(FilterError):
        EntityGraphRetriever(words, filters={"key": "a", "operator": "~"})


# -- what is left when parts fail -------------------------------------------------------------------------------------


class Failing:
    """A vector store that works until a given call."""

    def __init__(self, inner: QdrantEdgeVectorStore, broken: str) -> None:
        self._inner = inner
        self._broken = broken

    def _call(self, name: str, *arguments: Any) -> Any:
        if name == self._broken:
            raise ConnectionError(f"{name} is down")
        return getattr(self._inner, name)(*arguments)

    def search_dense(self, embedding: Sequence[float], top_k: int, filters: Filter | None = None) -> Any:
        """Maybe."""
        return self._call("search_dense", embedding, top_k, filters)

    def search_sparse(self, text: str, top_k: int, filters: Filter | None = None) -> Any:
        """Maybe."""
        return self._call("search_sparse", text, top_k, filters)

    def score_dense(self, embedding: Sequence[float], node_ids: Sequence[str]) -> Any:
        """Maybe."""
        return self._call("score_dense", embedding, node_ids)


@pytest.mark.parametrize("broken", ["search_dense", "search_sparse", "score_dense"])
def test_without_the_vector_store_words_and_names_answer(memory: Memory, broken: str) -> None:
    """Whichever call fails, the answer comes from the graph alone, and says so."""
    found = memory.retriever(vector_store=Failing(memory.vectors, broken)).retrieve(QUESTION)
    assert ids(found) == ids(memory.retriever(vector_store=None, embed_model=None).retrieve(QUESTION))
    assert why(found, "northwind")["notes"] == [f"vectors and keywords left out: ConnectionError: {broken} is down"]


def test_without_the_encoder_words_and_names_answer(memory: Memory) -> None:
    """Keywords of the vector store still help; every node says what was left out."""
    found = memory.retriever(embed_model=BrokenEmbedding()).retrieve(QUESTION)
    assert {"zephyr", "northwind"} <= set(ids(found))
    for one in found:
        assert why([one], one.node.node_id)["notes"] == [
            "vectors left out: the encoder failed: RuntimeError: the encoder is broken"
        ]


class Second(WordsEmbedding):
    """Encodes questions, but does something else for the second hop's texts."""

    action: Any = None

    def get_text_embedding_batch(self, texts: list[str], **kwargs: Any) -> list[list[float]]:
        """Do it."""
        return list(self.action(texts))


def test_an_encoder_that_fails_late_costs_the_second_hop_only(memory: Memory) -> None:
    """The first walk's answer stands, in its order, with a note."""
    both = Memory(TEXTS, WordsEmbedding())
    first = both.retriever(hops=1).retrieve(QUESTION)
    for action, note in ((lambda _: 1 / 0, "ZeroDivisionError"), (lambda _: [], "0 vectors for")):
        found = both.retriever(embed_model=Second(action=action)).retrieve(QUESTION)
        assert ids(found) == ids(first)
        assert note in why(found, ids(found)[0])["notes"][0]
        assert why(found, ids(found)[0])["notes"][0].startswith("second hop left out")


def test_what_is_deleted_while_a_question_is_answered_is_left_out() -> None:
    """Between walk and answer another thread may delete passages, or all of them."""
    both = Memory(TEXTS, WordsEmbedding())
    working = WordsEmbedding()

    def delete(*node_ids: str) -> Callable[[list[str]], list[list[float]]]:
        def action(texts: list[str]) -> list[list[float]]:
            both.graph.delete(node_ids=node_ids)
            return working.get_text_embedding_batch(texts)

        return action

    found = both.retriever(embed_model=Second(action=delete("zephyr"))).retrieve(QUESTION)
    assert found
    assert "zephyr" not in ids(found)
    assert both.retriever(embed_model=Second(action=delete(*TEXTS))).retrieve(QUESTION) == []


def test_a_closed_graph_is_no_degradation(words: SqliteGraphStore) -> None:
    """Nothing could answer in its place: the error is the caller's."""
    words.close()
    with pytest.raises(StoreClosedError):
        EntityGraphRetriever(words).retrieve("Zephyr")


def test_a_short_budget_skips_the_second_hop(memory: Memory) -> None:
    """When half the time is gone after the first walk, no further text is encoded; by an injected clock."""
    encoded: list[str] = []

    def encode(texts: Sequence[str]) -> list[list[float]]:
        encoded.extend(texts)
        return memory.embed_model.get_text_embedding_batch(list(texts))

    vector = memory.embed_model.get_query_embedding(QUESTION)
    for budget, skipped in ((1.0, True), (10.0, False), (None, False)):
        encoded.clear()
        ticks = iter([0.0, 0.6])
        search = GraphSearch(memory.graph, memory.vectors, encode, clock=lambda ticks=ticks: next(ticks))  # type: ignore[misc]
        answer = search.search(QUESTION, vector, budget_s=budget)
        assert bool(encoded) is not skipped
        assert answer.notes == (["second hop left out: 0.600 s of 1 s were gone"] if skipped else [])
        assert "northwind" in [found.passage.node_id for found in answer.found]


def test_a_given_embedding_is_not_made_again(memory: Memory) -> None:
    """`HybridRetriever` encodes a question once for all its stores; a bundle that says there is none is believed."""
    vector = memory.embed_model.get_query_embedding(QUESTION)
    retriever = memory.retriever(embed_model=BrokenEmbedding(), hops=1)
    found = retriever.retrieve(QueryBundle(QUESTION, embedding=vector))
    assert why(found, "zephyr")["notes"] == []
    useless = memory.retriever(vector_store=None).retrieve(QueryBundle(QUESTION, embedding=vector))
    assert ids(useless) == ids(memory.retriever(vector_store=None, embed_model=None).retrieve(QUESTION))
    bare = QueryBundle(QUESTION, custom_embedding_strs=[])
    assert why(retriever.retrieve(bare), "zephyr")["notes"] == []
