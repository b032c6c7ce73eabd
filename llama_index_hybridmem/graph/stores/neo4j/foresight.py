"""The statements by which a question's view fetches ahead; knows no Python of the search and runs nothing.

The walk's statement spreads mass over the graph as `neighbourhood.Frontier` does, twice from passages to names and
back, and brings along whatever holds enough of it. It may be a little off: the view reads what is missing.
"""

from __future__ import annotations

from .reads import SEEN_FACT, admitted

COMMON = "[(p)-[q:MENTIONS]->(m:<N>) WHERE m.id IN $common | [m.id, m.df, q.titled]]"
"""A passage's links to the question's common names; of the rare ones every link is known with the question."""
_LINKS = f"CASE WHEN size($common) = 0 THEN [] ELSE {COMMON} END"
_TIES = (
    "[(n)<-[:SUBJECT|OBJECT]-(f:<F>)-[:SUBJECT|OBJECT]->(e:<N>)"
    f" WHERE e <> n AND {admitted('e')} AND {SEEN_FACT} | [e.id, e.df]]"
)

QUESTION = """
CALL () { MATCH (p:<P>) RETURN count(p) AS passages }
CALL () { MATCH (f:<F>) RETURN count(f) AS facts }
CALL () { UNWIND $words AS word MATCH (w:<W> {key: word}) RETURN collect([w.key, w.df]) AS frequencies }
CALL () {
  UNWIND $keys AS key MATCH (n:<N> {key: key}) WHERE n.df > 0 OR n.given
  RETURN collect([[n.id, n.name, n.df, n.case, n.given], CASE WHEN n.df <= $rare THEN
    [(n)<-[r:MENTIONS]-(p:<P>) WHERE <keep p> | [p.id, p.node_id, r.titled]] END]) AS names
}
OPTIONAL MATCH (s:HybridmemStore {name: $store})
RETURN s.version, s.schema, s.total, s.upper, s.long, s.length, passages, facts, names, frequencies
"""
"""The store's counts, the question's names and words, and all passages of its rare names."""

SEEDS = f"UNWIND $keys AS key MATCH (p:<P> {{key: key}}) WHERE <keep p> RETURN p.id, p.node_id, {_LINKS}"
"""Passages by their keys."""

_AT_NAMES = f"""
  WITH n, sum(m) AS m WHERE m >= $tolerance
  WITH n, m, CASE WHEN m >= $tolerance * n.df OR n.id IN $followed
    THEN [(n)<-[r:MENTIONS]-(p:<P>) WHERE <keep p> | [p, p.id, r.titled]] END AS back,
    CASE WHEN $facts THEN {_TIES} ELSE [] END AS ties
  RETURN collect({{n: n, m: m, back: back, ties: ties}})"""
_OUT = f"[(p)-[r:MENTIONS]->(n:<N>) WHERE {admitted('n')} | [n, n.id, n.df, r.titled]]"
_AT_PASSAGES = f"""
  WITH p, sum(m) AS m WHERE m >= $tolerance
  RETURN collect({{p: p, m: m, out: {_OUT}}})"""
_STARTS = "UNWIND $names AS start MATCH (n:<N> {id: start[0]}) RETURN n, start[1] AS m"
_HELD = "UNWIND $held AS start MATCH (p:<P> {id: start[0]}) RETURN p, start[1] AS m"


def _from_ties(names: str) -> str:
    return (
        f"UNWIND {names} AS e WITH e WHERE e.m * $fact_share >= $tolerance * size(e.ties) UNWIND e.ties AS tie"
        " MATCH (n:<N> {id: tie[0]}) RETURN n, $damping * $fact_share * e.m / size(e.ties) AS m"
    )


def _from_passages(passages: str) -> str:
    return f"UNWIND {passages} AS e UNWIND e.out AS o RETURN o[0] AS n, $damping * e.m / size(e.out) AS m"


def _from_names(names: str) -> str:
    return f"UNWIND {names} AS e UNWIND e.back AS b RETURN b[0] AS p, $damping * e.m / size(e.back) AS m"


WALK = f"""
CALL () {{ CALL () {{ {_HELD} }} {_AT_PASSAGES} AS first }}
CALL () {{
  CALL () {{ {_STARTS} }} RETURN collect({{n: n, m: m, ties: CASE WHEN $facts THEN {_TIES} ELSE [] END}}) AS starts
}}
CALL (first, starts) {{
  CALL (first, starts) {{ {_STARTS} UNION ALL {_from_ties("starts")} UNION ALL {_from_passages("first")} }}
  {_AT_NAMES} AS near
}}
CALL (near) {{ CALL (near) {{ {_HELD} UNION ALL {_from_names("near")} }} {_AT_PASSAGES} AS second }}
CALL (second, near) {{
  CALL (second, near) {{ {_STARTS} UNION ALL {_from_ties("near")} UNION ALL {_from_passages("second")} }}
  {_AT_NAMES} AS far
}}
CALL (second, far) {{
  WITH [e IN second | e.p] AS seen, far
  CALL (far) {{ {_HELD} UNION ALL {_from_names("far")} }}
  WITH seen, p, sum(m) AS m WHERE m >= $tolerance AND NOT p IN seen
  RETURN collect({{p: p, out: {_OUT}}}) AS third
}}
CALL (second, third) {{
  UNWIND second + third AS e WITH e.p AS p, e.out AS out
  RETURN collect([p.id, p.node_id, [o IN out | o[1..]], {_LINKS}]) AS passages
}}
CALL (starts, near, far) {{
  UNWIND starts + near + far AS e WITH e.n AS n, collect(e) AS each
  WITH n, head([e IN each WHERE e.back IS NOT NULL | e.back]) AS back, each[0].ties AS ties
  RETURN collect([n.id, n.df, [b IN back | b[1..]], ties]) AS names
}}
RETURN passages, names
"""
"""The neighbourhood of a walk: seeds and names with their mass in, links and ties of what gets enough of it out."""

READING = """
UNWIND $ids AS id MATCH (p:<P> {id: id})
CALL (p) {
  OPTIONAL MATCH (p)-[r:MENTIONS]->(n:<N>)
  RETURN collect([r.surface, r.titled, [n.id, n.name, n.df, n.case, n.given]]) AS links
}
RETURN p.id, p.node_id, p.title, p.text, p.node, links
"""
"""Passages with all their names."""
