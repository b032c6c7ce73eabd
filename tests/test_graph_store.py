"""Tests of the embedded graph store: exact whatever came before, whole after a kill, clear when it cannot go on."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.errors import StoreClosedError, StoreDamagedError, StoreError, StoreMismatchError
from llama_index_hybridmem.graph.entities import declared_names
from llama_index_hybridmem.graph.stores.base import Fact, NameRule, Passage
from llama_index_hybridmem.graph.stores.linking import Linker
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore

Rows = dict[str, list[tuple[Any, ...]]]
ANY_NAME = NameRule(max_df=10**6, min_case=0.0)


def passage(node_id: str, text: str, title: str = "", doc_id: str = "doc", **fields: Any) -> Passage:
    """A passage that declares the names of its title and capitals."""
    names = declared_names(text, title if fields.get("lead", True) else "")
    return Passage(node_id, doc_id, title, text, tuple(names), **fields)


def dump(store: SqliteGraphStore) -> Rows:
    """All that a store knows, without the numbers it gave to passages and names."""
    queries = {
        "passages": "SELECT node_id, doc_id, title, lead, text, node, doc_hash, long FROM passage",
        "names": "SELECT name, df, total, upper, uses, given FROM name",
        "links": "SELECT node_id, name, link.total, link.upper, titled, surface FROM link"
        " JOIN passage ON passage.id = passage_id JOIN name ON name.id = name_id",
        "facts": "SELECT node_id, subject, relation, object, source, subject_name, object_name FROM fact"
        " LEFT JOIN passage ON passage.id = passage_id",
        "fields": "SELECT node_id, key, kind, value FROM field JOIN passage ON passage.id = passage_id",
        "declared": "SELECT node_id, name FROM declared JOIN passage ON passage.id = passage_id",
        "words": "SELECT term, doc, cnt FROM word_df",
        "counts": "SELECT key, value FROM meta WHERE key <> 'version'",
    }
    return {what: sorted(store._database.rows(sql), key=repr) for what, sql in queries.items()}


def orphans(store: SqliteGraphStore) -> int:
    """Rows that hang on a passage or name that is gone."""
    lost = [
        f"SELECT count(*) FROM {table} WHERE passage_id NOT IN (SELECT id FROM passage)" for table in ("field", "link")
    ]
    lost.append("SELECT count(*) FROM declared WHERE passage_id NOT IN (SELECT id FROM passage)")
    lost.append("SELECT count(*) FROM fact WHERE passage_id AND passage_id NOT IN (SELECT id FROM passage)")
    lost.append("SELECT count(*) FROM link WHERE name_id NOT IN (SELECT id FROM name)")
    return sum(store._database.rows(sql)[0][0] for sql in lost)


def links_of(store: SqliteGraphStore, node_id: str) -> dict[str, str]:
    """The names of a passage, as it writes them."""
    number = store.passage_ids([node_id])[node_id]
    return {link.name.name: link.surface for link in store.names_in(np.asarray([number]))[number]}


@pytest.fixture
def store() -> Iterator[SqliteGraphStore]:
    """An empty store in memory."""
    with_nothing = SqliteGraphStore()
    yield with_nothing
    with_nothing.close()


# -- exactness: the graph equals one built fresh ----------------------------------------------------------------------

PIECES = ["New", "York", "new york", "City", "city", "of", "It", "it", "Ada", "Ada's", "İzmir", ".", ",", "\n", "2 GB"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map(" ".join)
TITLES = st.sampled_from(["", "", "New York", "New York City", "City", "Ada (film)", "It"])
ENDS = st.sampled_from(["New York", "Ada", "York City", "city", "the city"])
FACTS = st.builds(Fact, ENDS, st.sampled_from(["is in", "met"]), ENDS, source=st.sampled_from(["a.csv", "b.csv"]))
PASSAGES = st.builds(
    lambda number, doc, text, title, facts, tags, long, lead: passage(
        f"n{number}", text, title, f"d{doc}", facts=tuple(facts), metadata={"tags": tags}, long=long, lead=lead
    ),
    st.integers(0, 5), st.integers(0, 2), TEXTS, TITLES, st.lists(FACTS, max_size=2),
    st.lists(st.sampled_from(["x", 1, True]), max_size=2), st.booleans(), st.booleans(),
)  # fmt: skip
BATCHES = st.lists(PASSAGES, max_size=3)
NODE_IDS = st.lists(st.integers(0, 5).map("n{}".format), max_size=2)
DOC_IDS = st.lists(st.integers(0, 2).map("d{}".format), max_size=1)
STEPS = st.one_of(
    st.tuples(st.just("upsert"), BATCHES),
    st.tuples(st.just("replace"), DOC_IDS, BATCHES),
    st.tuples(st.just("delete"), NODE_IDS, DOC_IDS),
    st.tuples(st.just("add_names"), st.lists(ENDS, max_size=1)),
    st.tuples(st.just("add_facts"), st.lists(FACTS, max_size=1)),
)


@dataclass
class Expected:
    """What should be left after some steps."""

    passages: dict[str, Passage] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def apply(self, step: tuple[Any, ...], store: SqliteGraphStore) -> None:
        """Do one step here and in the store."""
        kind, *arguments = step
        if kind == "add_names":
            self.names += arguments[0]
        elif kind == "add_facts":
            self.facts += arguments[0]
        else:
            self._change(kind, arguments)
        call = {"node_ids": arguments[0], "doc_ids": arguments[1]} if kind == "delete" else {}
        getattr(store, kind)(*([] if call else arguments), **call)

    def _change(self, kind: str, arguments: list[Any]) -> None:
        docs = {"upsert": [], "replace": arguments[0], "delete": arguments[-1]}[kind]
        gone = arguments[0] if kind == "delete" else []
        left = {key: one for key, one in self.passages.items() if one.doc_id not in docs and key not in gone}
        self.passages = left | ({one.node_id: one for one in arguments[-1]} if kind != "delete" else {})

    def fresh(self, shuffler: random.Random) -> SqliteGraphStore:
        """Build a store from what is left, in another order and other batches."""
        steps: list[Callable[[SqliteGraphStore], None]] = [
            lambda store: store.add_names(self.names),
            lambda store: store.add_facts(self.facts),
        ]
        passages = list(self.passages.values())
        shuffler.shuffle(passages)
        while passages:
            count = shuffler.randint(1, len(passages))
            steps.append(lambda store, batch=passages[:count]: store.upsert(batch))  # type: ignore[misc]
            passages = passages[count:]
        shuffler.shuffle(steps)
        store = SqliteGraphStore()
        for step in steps:
            step(store)
        return store


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=8), st.randoms(use_true_random=False))
def test_after_any_changes_the_graph_equals_one_built_fresh(
    steps: list[tuple[Any, ...]], shuffler: random.Random
) -> None:
    """Adds, changes, deletes, stated names and facts: names, links, counts, words, facts are those of the survivors."""
    store, expected = SqliteGraphStore(), Expected()
    for step in steps:
        expected.apply(step, store)
    assert dump(store) == dump(expected.fresh(shuffler))
    assert orphans(store) == 0


@settings(max_examples=30)
@given(BATCHES, BATCHES)
def test_an_ingest_of_the_same_writes_nothing(first: list[Passage], second: list[Passage]) -> None:
    """Re-adding passages, names and facts leaves even the version, which goes up with every change."""
    store = SqliteGraphStore()
    both = list({one.node_id: one for one in [*first, *second]}.values())
    store.upsert(both)
    store.add_names(["New York"])
    store.add_facts([Fact("Ada", "met", "New York")])
    before = store._database.rows("SELECT * FROM meta")
    store.upsert(both[::-1])
    store.replace({one.doc_id for one in both}, both)
    store.delete(node_ids=["unknown"], doc_ids=["unknown"])
    store.add_names(["new york"])
    store.add_facts([Fact("Ada", "met", "New York")])
    assert store._database.rows("SELECT * FROM meta") == before


def test_a_new_name_links_old_passages(store: SqliteGraphStore) -> None:
    """A passage that was there before anybody knew the name has it afterwards; deleting its source takes it back."""
    store.upsert([passage("old", "it runs on flash memory")])
    assert links_of(store, "old") == {}
    store.upsert([passage("new", "x", title="Flash memory")])
    assert links_of(store, "old") == {"flash memory": "flash memory"}
    assert store.find_names(["flash memory"])["flash memory"].df == 2
    store.delete(node_ids=["new"])
    assert links_of(store, "old") == {}
    assert store.find_names(["flash memory"]) == {}


def test_a_longer_name_takes_over_and_gives_back(store: SqliteGraphStore) -> None:
    """New York City hides New York where it stands, in old passages too, until it is deleted."""
    store.upsert([Passage("old", "doc", "", "we met in New York City"), passage("short", "x", title="New York")])
    assert links_of(store, "old") == {"new york": "New York"}
    store.upsert([passage("long", "x", title="New York City")])
    assert links_of(store, "old") == {"new york city": "New York City"}
    store.delete(node_ids=["long"])
    assert links_of(store, "old") == {"new york": "New York"}


def test_stated_names_stay_and_are_believed(store: SqliteGraphStore) -> None:
    """A name the user states needs no capitals to count, links old and new passages, and outlives them."""
    store.upsert([passage("old", "the floating gate holds charge")])
    store.add_names(["floating gate", "", "w " * 40])
    store.upsert([passage("new", "a floating gate leaks")])
    name = store.find_names(["floating gate"])["floating gate"]
    assert (name.df, name.case, name.given) == (2, 1.0, True)
    assert NameRule(10, 0.5).admits(name)
    store.delete(doc_ids=["doc"])
    assert store.find_names(["floating gate"])["floating gate"].df == 0


def test_a_title_names_the_first_passage_of_its_document(store: SqliteGraphStore) -> None:
    """Were every chunk of a long document named by its title, mass would go round among them."""
    store.upsert([passage("first", "one", title="Rome"), passage("second", "two", title="Rome", lead=False)])
    store.upsert([passage("third", "of Rome", title="Rome", lead=False)])
    assert [list(links_of(store, node_id)) for node_id in ("first", "second", "third")] == [["rome"], [], ["rome"]]


def test_a_passage_of_several_documents_in_turn_belongs_to_the_last(store: SqliteGraphStore) -> None:
    """The same node id under another document moves; of doubles in one batch the last is taken."""
    store.upsert([passage("n", "one", doc_id="a")])
    store.upsert([passage("n", "two", doc_id="a"), passage("n", "three", doc_id="b")])
    assert store.documents() == {"b": ""}
    assert store.document_node_ids("b") == ["n"]
    store.delete(doc_ids=["a"])
    assert store.passage_count == 1


def test_replacing_documents_keeps_what_did_not_change(store: SqliteGraphStore) -> None:
    """Only the difference is written; passages the document no longer has go."""
    same, other = passage("same", "Ada stays", doc_id="d"), passage("gone", "Bob goes", doc_id="d")
    store.upsert([same, other, passage("elsewhere", "Cid", doc_id="e")])
    number = store.passage_ids(["same"])["same"]
    store.replace(["d"], [same, passage("new", "Dan comes", doc_id="d")])
    assert store.passage_ids(["same", "gone", "new", "elsewhere"]).keys() == {"same", "new", "elsewhere"}
    assert store.passage_ids(["same"])["same"] == number


def test_two_stores_on_one_file_take_turns(tmp_path: Path) -> None:
    """Each sees the dictionary that the other left, so both together equal one."""
    one, other = SqliteGraphStore(tmp_path / "g"), SqliteGraphStore(tmp_path / "g")
    alone = SqliteGraphStore()
    batches = [[passage(f"n{i}", f"flash memory of Name{i % 3} and Flash Memory", title=f"Name{i}")] for i in range(8)]
    for i, batch in enumerate(batches):
        (one, other)[i % 2].upsert(batch)
        alone.upsert(batch)
    other.delete(node_ids=["n1"])
    one.add_names(["of"])
    alone.delete(node_ids=["n1"])
    alone.add_names(["of"])
    assert dump(one) == dump(other) == dump(alone)
    for each in (one, other, alone):
        each.close()


def test_an_error_in_the_middle_takes_the_whole_batch_back(store: SqliteGraphStore) -> None:
    """After a failed batch the store is as before, and goes on exactly."""
    store.upsert([passage("a", "Ada met Bob in Rome")])
    before = dump(store)
    with pytest.raises(StoreError, match="surrogate"):
        store.upsert([passage("b", "Cid met Bob in Oslo"), passage("c", "a lone \ud800 surrogate of Oslo")])
    assert dump(store) == before
    store.upsert([passage("b", "Cid met Bob in Oslo")])
    fresh = SqliteGraphStore()
    fresh.upsert([passage("b", "Cid met Bob in Oslo"), passage("a", "Ada met Bob in Rome")])
    assert dump(store) == dump(fresh)


def test_an_error_while_links_are_written_leaves_the_dictionary_as_it_was(
    store: SqliteGraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in mind must not run ahead of the names in the tables: the next batch links by the tables."""
    store.upsert([passage("a", "so Ada met Bob")])
    with monkeypatch.context() as patch:
        patch.setattr(Linker, "_relink", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.upsert([passage("b", "so Ada met Cid")])
    store.upsert([passage("c", "so cid met Bob")])
    fresh = SqliteGraphStore()
    fresh.upsert([passage("c", "so cid met Bob"), passage("a", "so Ada met Bob")])
    assert dump(store) == dump(fresh)


def test_the_one_named_end_of_a_stated_fact_is_a_name(store: SqliteGraphStore) -> None:
    """Asked about STT-MRAM, what the user says of it is found, though its object is an ordinary word."""
    store.add_facts([Fact("STT-MRAM", "stores bits in", "magnetic junctions"), Fact("flash", "is", "dense")])
    assert store.find_names(["stt mram", "magnetic junctions", "flash", "dense"]).keys() == {"stt mram"}


def test_one_statement_from_several_sources_is_one_fact(store: SqliteGraphStore) -> None:
    """Which source it keeps does not hang on which came first."""
    facts = [Fact("Ada", "met", "Bob", source=source) for source in "ab"]
    other = SqliteGraphStore()
    for fact in facts:
        store.add_facts([fact])
    other.add_facts(facts[::-1])
    assert dump(store)["facts"] == dump(other)["facts"]
    assert len(dump(store)["facts"]) == 1


# -- what is read -----------------------------------------------------------------------------------------------------


def test_facts_are_read_per_passage_and_stated_ones_by_name(store: SqliteGraphStore) -> None:
    """A passage with many facts does not crowd out another's; facts of other passages and names stay away."""
    many = tuple(Fact("Ada", "met", f"Name{i}") for i in range(9))
    store.upsert([passage("a", "Ada", facts=many), passage("b", "Bob", facts=(Fact("Bob", "met", "Cid"),))])
    store.upsert([passage("c", "Cid", facts=(Fact("Cid", "met", "Dan"),))])
    store.add_facts([Fact("Ada", "knows", "Eve", source="user"), Fact("Fay", "knows", "Gus")])
    ids = store.passage_ids(["a", "b"])
    names = np.asarray([store.find_names(["ada"])["ada"].id])
    found = store.facts_about(names, np.asarray(list(ids.values())), limit=2)
    assert [(str(fact), number) for fact, number in found] == [
        ("Ada → met → Name0", ids["a"]), ("Ada → met → Name1", ids["a"]), ("Bob → met → Cid", ids["b"]),
        ("Ada → knows → Eve", None),
    ]  # fmt: skip
    assert found[0][0].node_id == "a"
    assert found[-1][0].source == "user"


def test_keywords_are_ranked_whatever_the_question(store: SqliteGraphStore) -> None:
    """BM25 over title and text; quotes, operators and 5,000 words are words, not syntax."""
    store.upsert([passage("a", "dram is fast"), passage("b", "flash is slow", title="Flash"), passage("c", "none")])
    assert [node_id for node_id, _ in store.keyword_scores(["flash", "fast"], 10)] == ["b", "a"]
    assert store.keyword_scores([], 10) == []
    assert store.keyword_scores(['"', "a*", "NOT", "fast OR", ""], 10) == []
    many = [f"w{i}" for i in range(5000)]
    assert [node_id for node_id, _ in store.keyword_scores([*many, "fast"], 10)] == ["a"]
    assert store.document_frequencies(["is", "flash", "nothing", *many]) == {"is": 2, "flash": 1}
    assert store.find_names([*many, "flash"]).keys() == {"flash"}


def test_an_empty_store_answers_everything_with_nothing(store: SqliteGraphStore) -> None:
    """No division by zero, no error."""
    none = np.zeros(0, dtype=np.int64)
    assert (store.passage_count, store.capital_share, store.long_share) == (0, 1.0, 0.0)
    assert store.documents() == {}
    assert store.sample(5) == []
    assert store.links_of_passages(none, ANY_NAME).passages.tolist() == []
    assert store.facts_about(none, none, 5) == []
    assert {key: count for key, count in store.stats().items() if key != "bytes"} == dict.fromkeys(
        ["passages", "names", "links", "facts", "documents"], 0
    )


def test_the_share_of_capitals_and_of_long_passages_are_those_of_the_store(store: SqliteGraphStore) -> None:
    """Both switch parts of the method, and follow deletes."""
    store.upsert([passage("a", "we saw Rome", long=True), passage("b", "in rome or in rome", title="Rome")])
    assert store.capital_share == pytest.approx(1 / 3)
    assert store.long_share == 0.5
    store.delete(node_ids=["a"])
    assert store.capital_share == 0.0
    assert store.long_share == 0.0


@pytest.mark.parametrize("where", ["memory", "file"])
def test_the_size_counts_what_is_not_yet_checkpointed(where: str, tmp_path: Path) -> None:
    """SQLite writes to a second file first: looking at the file alone would say 4 KB."""
    store = SqliteGraphStore(tmp_path / "g" if where == "file" else None)
    store.upsert([passage(f"n{i}", f"text {i} " * 50) for i in range(200)])
    assert store.stats()["bytes"] > 100_000
    store.close()


# -- odd text ---------------------------------------------------------------------------------------------------------


ODD = {
    "empty": "",
    "blank": " \n ",
    "nul": "\0 NUL \0Ada\0",
    "huge": "W" * 100_000,
    "turkish": "İzmir ve IĞDIR",
    "hebrew": "שלום לכולם",
    "arabic": "مرحبا بالعالم",
    "apostrophes": "O’Brien’s Ada's 's",
    "non-characters": "\ufffe\U0010ffff",
    "syntax": '" OR NEAR(x) *',
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_odd_text_is_kept_and_forgotten_exactly(text: str, store: SqliteGraphStore) -> None:
    """What goes in comes out; deleting it leaves no word, no name and no count behind."""
    empty = dump(store)
    store.upsert([passage("odd", f"{text} Rome", title=text, metadata={text or "k": text})])
    number = store.passage_ids(["odd"])["odd"]
    loaded = store.load(np.asarray([number]))[number]
    assert (loaded.text, loaded.title) == (f"{text} Rome", text)
    store.upsert([passage("other", f"so {text} it is in Rome")])
    store.delete(doc_ids=["doc"])
    assert dump(store) == empty


def test_ids_that_sqlite_would_cut_are_refused_and_never_taken_for_others(store: SqliteGraphStore) -> None:
    r"""A NUL ends a string in SQLite's JSON: "a\0b" must not find or delete "a"."""
    store.upsert([passage("a", "Ada")])
    with pytest.raises(StoreError, match="NUL"):
        store.upsert([passage("a\0b", "Bob")])
    store.delete(node_ids=["a\0b"])
    assert store.passage_ids(["a\0b"]) == {}
    assert store.passage_count == 1


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**63, -(2**63), 10**400, None, {"a": 1}, [1, None, "x"]]
)
def test_odd_metadata_does_not_fail_an_ingest(value: object, store: SqliteGraphStore) -> None:
    """SQLite takes NaN for NULL and refuses integers beyond 64 bits; the passage is stored all the same."""
    store.upsert([passage("a", "Ada", metadata={"k": value})])
    assert store.passage_count == 1


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_a_store_is_there_after_closing(tmp_path: Path) -> None:
    """One file holds everything; opening it again changes nothing."""
    store = SqliteGraphStore(tmp_path / "g")
    store.upsert([passage("a", "Ada met Bob"), passage("b", "Bob met Cid")])
    before = dump(store)
    store.close()
    again = SqliteGraphStore(tmp_path / "g")
    assert dump(again) == before
    again.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Reading and writing, on disk and in memory; closing twice is fine."""
    none = np.zeros(0, dtype=np.int64)
    for store in (SqliteGraphStore(), SqliteGraphStore(tmp_path / "g")):
        store.upsert([passage("a", "Ada")])
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda store=store: store.upsert([]), lambda store=store: store.delete(),  # type: ignore[misc]
            lambda store=store: store.load(none), lambda store=store: store.stats(),  # type: ignore[misc]
            lambda store=store: store.passage_count,  # type: ignore[misc]
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoreClosedError, match="closed"):
                call()


def test_a_store_that_is_forgotten_closes_its_connections(tmp_path: Path) -> None:
    """Python 3.13 warns of databases left open; a store that nobody holds any more leaves none."""
    store = SqliteGraphStore(tmp_path / "g")
    store.upsert([passage("a", "Ada")])
    connections = [store._database._writer, store._database._idle.queue[0]] if store.passage_count else []
    del store
    gc.collect()
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    """The message names the file and the ways out."""
    (tmp_path / "g").write_bytes(b"no database at all " * 500)
    with pytest.raises(StoreDamagedError, match="restore a copy"):
        SqliteGraphStore(tmp_path / "g")
    assert (tmp_path / "g").read_bytes().startswith(b"no database")


def test_damaged_pages_are_called_damaged(tmp_path: Path) -> None:
    """Whatever SQLite makes of them, the caller gets one class of error."""
    store = SqliteGraphStore(tmp_path / "g")
    store.upsert([passage(f"n{i}", f"Name{i} met Name{i + 1} in Rome") for i in range(300)])
    store.close()
    content = bytearray((tmp_path / "g").read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    (tmp_path / "g").write_bytes(content)
    with pytest.raises(StoreDamagedError):
        SqliteGraphStore(tmp_path / "g").upsert([passage("new", "Ada")])


def test_a_file_in_a_missing_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    """It names the place."""
    with pytest.raises(StoreError, match="nowhere"):
        SqliteGraphStore(tmp_path / "nowhere" / "g")


def test_another_applications_database_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path does not fill somebody's browser history with our tables."""
    with sqlite3.connect(tmp_path / "g") as foreign:
        foreign.execute("CREATE TABLE name (x)")
    foreign.close()
    with pytest.raises(StoreMismatchError, match="another application"):
        SqliteGraphStore(tmp_path / "g")
    with sqlite3.connect(tmp_path / "g") as foreign:
        assert foreign.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    foreign.close()


def test_another_version_of_the_schema_is_named(tmp_path: Path) -> None:
    """Neither an older nor a newer version's file is written to."""
    SqliteGraphStore(tmp_path / "g").close()
    with sqlite3.connect(tmp_path / "g") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreMismatchError, match="schema 99"):
        SqliteGraphStore(tmp_path / "g")


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from test_graph_store import passage, SqliteGraphStore
store = SqliteGraphStore(sys.argv[1])
for batch in range(10_000):
    texts = [f"flash memory of Name{i} and Place{batch}" for i in range(5)]
    store.upsert([passage(f"n{batch}-{i}", text, title=f"Title{batch} {i}") for i, text in enumerate(texts)])
    print(batch, flush=True)
"""


def test_a_kill_in_the_middle_of_writing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After kill -9 the file opens, has every batch that was acknowledged, whole, and equals a fresh build."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "g"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(12)][-1]
        writer.kill()
    store = SqliteGraphStore(tmp_path / "g")
    wanted = {f"n{batch}-{i}" for batch in range(acknowledged + 1) for i in range(5)}
    found = store.document_node_ids("doc")
    assert wanted <= set(found)
    assert len(found) % 5 == 0
    fresh = SqliteGraphStore()
    stored = store.load(np.fromiter(store.passage_ids(found).values(), dtype=np.int64)).values()
    fresh.upsert([passage(one.node_id, one.text, one.title) for one in stored])
    assert dump(store) == dump(fresh)
    store.close()


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "file"])
def test_many_threads_read_while_one_writes(where: str, tmp_path: Path) -> None:
    """Readers see whole commits only: each text's two names come and go together; nobody raises."""
    store = SqliteGraphStore(tmp_path / "g" if where == "file" else None)
    done = threading.Event()
    failures: list[object] = []

    def read() -> None:
        while not done.is_set():
            try:
                numbers = store.passage_ids([f"n{i}" for i in range(20)])
                names = store.names_in(np.fromiter(numbers.values(), dtype=np.int64))
                counts = {len(links) for links in names.values()}
                store.keyword_scores(["met"], 5)
                store.document_frequencies(["met"])
                if not counts <= {0, 2}:
                    failures.append(counts)
            except Exception as error:  # noqa: BLE001  # a thread's failure must reach the test
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for turn in range(15):
        store.upsert([passage(f"n{i}", f"so Ada{turn} met Bob{i}") for i in range(turn, turn + 5)])
        store.delete(node_ids=[f"n{turn}"])
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    store.close()


def test_many_threads_may_write(tmp_path: Path) -> None:
    """Writers take turns; together they leave what one would have left."""
    store, fresh = SqliteGraphStore(tmp_path / "g"), SqliteGraphStore()
    batches = [
        [passage(f"n{i}-{j}", f"Name{j} met Name{i} in New York", title=f"Name{i}") for j in range(4)]
        for i in range(12)
    ]
    writers = [threading.Thread(target=store.upsert, args=(batch,)) for batch in batches]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    fresh.upsert([one for batch in batches for one in batch])
    assert dump(store) == dump(fresh)
    store.close()


def test_closing_while_others_read_leaves_no_connection_open(tmp_path: Path) -> None:
    """A reader that comes back after close() closes its own connection."""
    store = SqliteGraphStore(tmp_path / "g")
    store.upsert([passage("a", "Ada")])
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                store.sample(1)
        except StoreClosedError:
            pass

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    store.close()
    stop.set()
    for reader in readers:
        reader.join()
    assert store._database._idle.empty()
