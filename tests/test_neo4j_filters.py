"""Tests of filters in the Neo4j store: Cypher means what `filters.evaluate` means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers.neo4j.server import Neo4jAddress
from test_graph_filters import FILTERS, METADATA

from llama_index_hybridmem.filters import Condition, Filter, Group, Op, evaluate
from llama_index_hybridmem.graph.stores.bolt import Bolt
from llama_index_hybridmem.graph.stores.neo4j.conditions import Conditions, fields_of

LABEL = "HybridmemFilterTest"
Documents = list[dict[str, object]]


@pytest.fixture
def bolt(neo4j_server: Neo4jAddress) -> Iterator[Bolt]:
    """A connection; nodes of these tests are gone afterwards."""
    user, password = neo4j_server.auth or (None, None)
    one = Bolt(neo4j_server.uri, username=user, password=password, database=neo4j_server.database, timeout_s=60)
    yield one
    with one.writing() as transaction:
        transaction.run(f"MATCH (p:{LABEL}) DELETE p")
    one.close()


def kept(bolt: Bolt, cases: list[tuple[Documents, Filter]]) -> list[list[int]]:
    """Which documents of each case its filter leaves, by their place; two trips for all cases."""
    rows = [
        {**fields_of(metadata), "case": case, "place": place}
        for case, (documents, _) in enumerate(cases)
        for place, metadata in enumerate(documents)
    ]
    parts, parameters = [], {}
    for case, (_, keep) in enumerate(cases):
        conditions = Conditions()
        written = conditions.write(keep, "p")
        for name in sorted(conditions.parameters, key=len, reverse=True):
            written = written.replace(f"${name}", f"$c{case}_{name}")
            parameters[f"c{case}_{name}"] = conditions.parameters[name]
        parts.append(f"MATCH (p:{LABEL} {{case: {case}}}) WHERE {written} RETURN p.case AS case, p.place AS place")
    with bolt.writing() as transaction:
        transaction.run(f"MATCH (p:{LABEL}) DELETE p")
        transaction.run(f"UNWIND $rows AS row CREATE (p:{LABEL}) SET p = row", {"rows": rows})
        found = transaction.run(" UNION ALL ".join(parts), parameters)
    return [sorted(place for number, place in found if number == case) for case in range(len(cases))]


def meant(cases: list[tuple[Documents, Filter]]) -> list[list[int]]:
    """The same, as the reference says."""
    return [[i for i, metadata in enumerate(documents) if evaluate(keep, metadata)] for documents, keep in cases]


CASES = st.lists(st.tuples(st.lists(METADATA, min_size=1, max_size=5), FILTERS), min_size=15, max_size=15)


@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(CASES)
@example([([{"a": True}, {"a": 1}, {"a": "1"}], Condition("a", Op.EQ, 1))])
@example([([{"a": [1, 2]}, {"a": []}, {}], Condition("a", Op.ALL, ()))])
@example([([{"a": ["x", 1]}, {"a": "É"}], Condition("a", Op.TEXT_MATCH_INSENSITIVE, "é"))])
def test_cypher_keeps_what_the_reference_keeps(bolt: Bolt, cases: list[tuple[Documents, Filter]]) -> None:
    """Every operator, kind and nesting, missing keys, lists, NaN, odd keys: the store agrees with `evaluate`."""
    assert kept(bolt, cases) == meant(cases)


LETTERS = "ΑΣ ας ΑΣΑ İ i̇ ı I ẞ ß ss ǅ Ǆ Ω ω Å å 𐐀 𐐨 Ⅷ ⅷ Ა ა".split()


@pytest.mark.parametrize("op", [Op.TEXT_MATCH, Op.TEXT_MATCH_INSENSITIVE, Op.GT, Op.LTE])
def test_letters_of_any_script_compare_as_in_python(bolt: Bolt, op: Op) -> None:
    """The server lower-cases and orders with Java's tables: the same as Python's, beyond 16 bits, too."""
    documents: Documents = [{"a": letter} for letter in [*LETTERS, "\U0001f600", "z", ""]]
    cases: list[tuple[Documents, Filter]] = [(documents, Condition("a", op, letter)) for letter in LETTERS]
    assert kept(bolt, cases) == meant(cases)


def test_order_beyond_16_bits_is_javas(bolt: Bolt) -> None:
    """The server orders by UTF-16: an emoji comes before U+E000 to U+FFFF, in Python after them."""
    documents: Documents = [{"a": "\ufb03"}, {"a": "\U0001f600"}]
    cases: list[tuple[Documents, Filter]] = [
        (documents, Condition("a", op, value)) for op, value in ((Op.GT, "\uf000"), (Op.LT, "\ue000"))
    ]
    assert kept(bolt, cases) == [[0], [1]]


def test_numbers_beyond_64_bits_are_compared_as_floats(bolt: Bolt) -> None:
    """The one place where the store is coarser than Python; it neither fails nor overflows."""
    documents: Documents = [{"a": 2**70}, {"a": 10**400}, {"a": -(10**400)}, {"a": 1}]
    conditions = [Condition("a", Op.EQ, 2**70), Condition("a", Op.GT, 10**300), Condition("a", Op.LT, 0)]
    assert kept(bolt, [(documents, condition) for condition in conditions]) == [[0], [1], [2]]


def test_long_lists_wide_groups_and_deep_nesting_fit(bolt: Bolt) -> None:
    """The planner's stack holds hundreds of conditions side by side and sixteen levels of them."""
    documents: Documents = [{"a": "n399"}, {"a": "other"}, {"a": 999}]
    many = tuple(f"n{i}" for i in range(400))
    each = tuple(Condition("a", Op.EQ, name) for name in many)
    deep: Filter = Condition("a", Op.EQ, 999)
    for _ in range(16):
        deep = Group("not", (Condition("b", Op.EQ, 1), deep))
    cases: list[tuple[Documents, Filter]] = [
        (documents, keep)
        for keep in (Condition("a", Op.IN, many), Condition("a", Op.NIN, (*many, 999)), Group("or", each[1::2]), deep)
    ]
    assert kept(bolt, cases) == meant(cases)


def test_values_never_become_part_of_a_statement() -> None:
    """Fields and values are parameters, each under a name of ours."""
    odd: Any = "x`]) OR true //"
    conditions = Conditions()
    written = conditions.write(Group("or", tuple(Condition(odd, op, odd) for op in (Op.EQ, Op.TEXT_MATCH, Op.GT))), "p")
    assert odd not in written
    assert set(written) <= set("abcdefghijklmnopqrstuvwxyzINANDOREHWSTC$0123456789()[], |<>=")
    assert odd in str(conditions.parameters)
