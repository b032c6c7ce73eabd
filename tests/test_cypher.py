"""Tests of the judge of Cypher: no attack passes, honest queries do, and every refusal says what and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from injection_zoo import CYPHER, NAMES, READING

from llama_index_hybridmem.errors import CypherRefusedError
from llama_index_hybridmem.graph.cypher import ALLOWED, FUNCTIONS, read_only
from llama_index_hybridmem.graph.cypher_tokens import tokens


def refusal(text: str, **settings: object) -> CypherRefusedError:
    """The error that a text ends with."""
    with pytest.raises(CypherRefusedError) as raised:
        read_only(text, **settings)  # type: ignore[arg-type]
    return raised.value


def passes(text: str) -> bool:
    """Whether a text holds a query that may be run; whatever else it does to the judge fails the test."""
    try:
        read_only(text)
    except CypherRefusedError:
        return False
    return True


def test_the_zoo_is_large_and_holds_nothing_twice() -> None:
    """Every animal is one of its own."""
    for cage, least in ((NAMES, 60), (CYPHER, 60), (READING, 40)):
        assert len(set(cage)) == len(cage) >= least


@pytest.mark.parametrize("attack", CYPHER, ids=range(len(CYPHER)))
def test_no_attack_passes(attack: str) -> None:
    """Whatever writes, administers, hides, calls or asks without bound is refused, and nothing else is raised."""
    assert "(line " in refusal(attack).problem


@pytest.mark.parametrize("query", READING, ids=range(len(READING)))
def test_honest_queries_pass_as_they_are(query: str) -> None:
    """Property names, labels, strings and subqueries that look like writes are none."""
    assert read_only(query) == query.removesuffix(";")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("MATCH (n)\nWHERE n.x = 1\n  SET n.y = 2", "SET is no clause"),
        ("MATCH (n) // all", "a comment"),
        ("CALL apoc.x()", "procedure 'apoc.x' is not allowed"),
        ("RETURN apoc.y(1)", "function apoc.y is not allowed"),
        ("RETURN 1; RETURN 2", "several statements"),
        ("MATCH (n)\u200b RETURN n", "U+200B ZERO WIDTH SPACE"),
        ("MATCH (a)-[*]-(b) RETURN a", "any number of steps; at most 10"),
        ("MATCH (n) RETURN n CREATE (m)", "CREATE is no clause"),
        ("MATCH (delete) RETURN delete", "it needs backticks"),
        ("MATCH (n) RETURN (n.x", ") is missing"),
        ("MATCH (n)", "nothing is returned"),
        ("What a question!", "What is no clause"),
    ],
)
def test_a_refusal_says_what(query: str, problem: str) -> None:
    """The problem names the word or character."""
    error = refusal(query)
    assert problem in error.problem
    assert error.cypher == query


def test_a_refusal_says_where() -> None:
    """Line and column, from 1, of the query without what stood around it."""
    error = refusal("Gladly:\n```cypher\nMATCH (n)\n  DELETE n\n```\n")
    assert error.problem.endswith("(line 2, column 3)")
    assert error.cypher == "MATCH (n)\n  DELETE n"


QUERY = "MATCH (n:Person)\nRETURN n.name"


@pytest.mark.parametrize(
    "answer",
    [
        QUERY,
        f"  {QUERY};\n",
        f"```cypher\n{QUERY}\n```",
        f"```\n{QUERY};\n```",
        f"```cypher {QUERY}```",
        f"~~~Cypher\n{QUERY}\n~~~",
        f"```cypher\n{QUERY}",
        f"Sure! This finds every person:\n\n```cypher\n{QUERY}\n```\n\nIt returns their names.",
        f"```cypher\n{QUERY}\n```\nOr, once more:\n```cypher\n{QUERY}\n```",
        f"Here is the query:\n{QUERY}",
        f"Return the names with this query:\n\n{QUERY}\n\nThe names are what you asked for.",
        f"Cypher: {QUERY}",
        f"**Cypher query:** {QUERY}",
        f"cypher\n{QUERY}",
        f"`{QUERY}`",
        f"<think>CREATE would be wrong; so\n```cypher\nMATCH (m) RETURN m\n```</think>\n{QUERY}",
    ],
)
def test_what_stands_around_the_query_is_left_aside(answer: str) -> None:
    """Fences, reasoning, labels and prose are not run."""
    assert read_only(answer) == QUERY


def test_a_query_keeps_its_text() -> None:
    """Blank lines, indentation and what is in strings stay as they are, odd line separators too."""
    query = "MATCH (n)\n\n  WHERE n.name = 'a\u2028Answer: b'\n\nRETURN n"
    assert read_only(f"The query:\n{query}\n") == query


@pytest.mark.parametrize(
    ("query", "limited"),
    [
        ("MATCH (n) RETURN n", True),
        ("MATCH (n) WITH n LIMIT 3 RETURN n ORDER BY n.x SKIP 2", True),
        ("MATCH (n) RETURN COLLECT { MATCH (m) RETURN m LIMIT 1 } AS m", True),
        ("MATCH (n) RETURN n LIMIT 1000000", False),
        ("MATCH (n) RETURN n UNION MATCH (n) RETURN n", False),
        ("CALL db.labels()", False),
        ("CALL db.labels() YIELD label", False),
        ("MATCH (n) RETURN n.limit", True),
    ],
)
def test_a_limit_is_added_where_it_changes_no_meaning(query: str, limited: bool) -> None:
    """At the end of a plain RETURN without one, and nowhere else."""
    assert read_only(query, limit=51) == (f"{query}\nLIMIT 51" if limited else query)


def test_hops_may_be_bounded_otherwise_or_not_at_all() -> None:
    """The bound of paths is the caller's to set."""
    assert read_only("MATCH (a)-[*..3]-(b)-[*]-(c) RETURN a", max_hops=None)
    assert read_only("MATCH ((a)--(b))+ RETURN a", max_hops=None)
    assert "at most 2" in refusal("MATCH (a)-[*..3]-(b) RETURN a", max_hops=2).problem
    assert "up to 3" in refusal("MATCH ((a)--(b)){1,3} RETURN a", max_hops=2).problem
    assert read_only("MATCH ((a)--(b)){1,2} RETURN a", max_hops=2)


def test_procedures_and_functions_may_be_allowed() -> None:
    """A user who knows a plugin's procedure or function can let it through."""
    assert read_only("CALL apoc.meta.stats() YIELD labels RETURN labels", procedures=ALLOWED | {"apoc.meta.stats"})
    assert read_only("RETURN apoc.text.clean('A')", functions=FUNCTIONS | {"apoc.text.clean"})
    assert refusal("CALL db.labels()", procedures=()).problem.startswith("procedure")


def test_nothing_that_writes_is_on_the_lists() -> None:
    """No procedure or function allowed by default creates, sets or runs anything."""
    for name in ALLOWED | FUNCTIONS:
        assert not set(name.lower().split(".")) & {"apoc", "dbms", "create", "cypher", "tx", "load", "graph"}


@given(st.text())
def test_any_text_is_a_query_or_refused(text: str) -> None:
    """No text makes the judge stumble."""
    passes(text)


PIECES = sorted({piece for query in (*READING, *CYPHER) if len(query) < 300 for piece in query.split(" ")})


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from([" ", "", "\n"]))
def test_any_pieces_are_a_query_or_refused(pieces: list[str], between: str) -> None:
    """Nor does anything made of Cypher's own words."""
    passes(between.join(pieces))


@given(st.sampled_from(READING), st.sampled_from(["CREATE (x)", "SET n.x = 1", "DETACH DELETE n", "REMOVE n.x"]))
def test_no_honest_query_may_be_followed_by_a_write(query: str, write: str) -> None:
    """A clause that writes is seen behind whatever came before it."""
    for between in (" ", "\n", " WITH * ", "\nUNION "):
        refusal(f"{query.removesuffix(';')}{between}{write}")


@given(st.sampled_from(NAMES))
def test_a_parameter_is_the_way_for_any_text(name: str) -> None:
    """A name that is spliced into a string either stays inside it or is refused; it never adds a clause."""
    query = f"MATCH (n) WHERE n.name = '{name}' RETURN n"
    if passes(query):
        words = {token.word for token in tokens(query)}
        assert words <= {"", "MATCH", "N", "WHERE", "NAME", "RETURN", "OR"}
