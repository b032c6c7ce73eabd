"""The one query in a language model's answer, if it is certain to read only; knows no database and asks no model."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..errors import CypherRefusedError
from .cypher_judge import CLAUSES, WRITES, Judge
from .cypher_tokens import CypherProblem

__all__ = ["ALLOWED", "FUNCTIONS", "MAX_HOPS", "read_only"]

ALLOWED = frozenset(
    "db.labels db.relationshipTypes db.propertyKeys db.schema.nodeTypeProperties db.schema.relTypeProperties "
    "db.schema.visualization db.index.fulltext.queryNodes db.index.fulltext.queryRelationships "
    "db.index.vector.queryNodes db.index.vector.queryRelationships".split()
)
"""Procedures that read, and nothing else."""
FUNCTIONS = frozenset(
    """
    all any none single exists isempty avg collect count max min percentilecont percentiledisc stdev stdevp sum
    char_length character_length coalesce elementid endnode head id last length nullif properties randomuuid size
    startnode timestamp toboolean tobooleanornull tofloat tofloatornull tointeger tointegerornull type valuetype keys
    labels nodes range reduce relationships reverse tail tobooleanlist tofloatlist tointegerlist tostringlist abs ceil
    floor isnan rand round sign e exp log log10 sqrt acos asin atan atan2 cos cosh cot coth degrees haversin pi radians
    sin sinh tan tanh btrim left lower ltrim normalize replace right rtrim split substring tolower tostring
    tostringornull toupper trim upper shortestpath allshortestpaths point point.distance point.withinbbox
    vector.similarity.cosine vector.similarity.euclidean duration duration.between duration.indays duration.inmonths
    duration.inseconds
    """.split()
) | {
    f"{kind}{form}"
    for kind in ("date", "datetime", "localdatetime", "localtime", "time")
    for form in ("", ".realtime", ".statement", ".transaction", ".truncate", ".fromepoch", ".fromepochmillis")
}
"""Functions of Neo4j itself that compute, in lower case; functions of plugins may do anything."""
MAX_HOPS = 10
MAX_ANSWER = 100_000

_THOUGHTS = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"(?:```|~~~)(?:[ \t]*[\w+-]*[ \t]*\r?\n|cypher\b)?(.*?)(?:```|~~~|\Z)", re.DOTALL | re.IGNORECASE)
_LABEL = re.compile(r"\A\W*(?:cypher|query|answer)(?: query| statement)?[*_]*:[*_]*\s*", re.IGNORECASE)


def read_only(
    text: str,
    *,
    procedures: Collection[str] = ALLOWED,
    functions: Collection[str] = FUNCTIONS,
    max_hops: int | None = MAX_HOPS,
    limit: int | None = None,
) -> str:
    """Take the one query out of a language model's answer, if it is certain to read only.

    Args:
        text: the answer; fences, reasoning and prose around the query are left aside.
        procedures: those that may be called, spelled as the server has them.
        functions: those that may be called, in lower case; `FUNCTIONS | {"apoc.text.clean"}` adds one.
        max_hops: bound that a variable-length path must have; None: none needed.
        limit: rows to ask for, where a LIMIT can be added without changing what the query means: not where it has its
            own, ends without RETURN, or is a UNION.

    Returns:
        The query as it may be run, without a semicolon at the end.

    Raises:
        CypherRefusedError: no query or several, or one that is not certain to read only; says what and where.
    """
    cypher = text
    try:
        cypher = _query_in(text)
        clauses = Judge(cypher, procedures, functions, max_hops).judge()
    except CypherProblem as problem:
        line, column = cypher.count("\n", 0, problem.at) + 1, problem.at - cypher.rfind("\n", 0, problem.at)
        raise CypherRefusedError(cypher, f"{problem.what} (line {line}, column {column})") from problem
    return f"{cypher}\nLIMIT {limit:d}" if limit is not None and _can_be_limited(clauses) else cypher


def _can_be_limited(clauses: list[str]) -> bool:
    if "RETURN" not in clauses or "UNION" in clauses:
        return False
    return "LIMIT" not in clauses[clauses.index("RETURN") :]


def _query_in(text: str) -> str:
    """Find the one query in a model's answer."""
    if len(text) > MAX_ANSWER:
        raise CypherProblem(f"an answer of {len(text)} characters; at most {MAX_ANSWER}", 0)
    answer = _THOUGHTS.sub("", text, count=1)
    fenced = [block.strip() for block in _FENCED.findall(answer)]
    different = list(dict.fromkeys(filter(None, fenced)))
    if len(different) > 1:
        raise CypherProblem(f"{len(different)} different queries; one is asked for", 0)
    query = "".join(different) if fenced else _without_prose(answer)
    query = query.strip().removesuffix(";").rstrip()
    if not query:
        raise CypherProblem("no query", 0)
    return query


def _without_prose(answer: str) -> str:
    """Leave out lines before the first that begins like a query, and paragraphs at the end that do not.

    This is comfort and no guard: what is left out is not run, and what is left is judged as a whole.
    """
    lines = answer.strip().split("\n")
    for place, line in enumerate(lines):
        if _begins_query(query := _LABEL.sub("", line, count=1)):
            lines = [query, *lines[place + 1 :]]
            break
    paragraphs = re.split(r"\n[ \t]*\n", "\n".join(lines))
    while len(paragraphs) > 1 and not _begins_query(paragraphs[-1]):
        paragraphs.pop()
    query = "\n\n".join(paragraphs).strip()
    if query.startswith("`") and query.endswith("`") and _begins_query(query[1:-1]):
        return query[1:-1]
    return query


def _begins_query(text: str) -> bool:
    """Whether a line begins with a clause, and does not end as prose does that announces something."""
    first = re.match(r"\s*`?([A-Za-z]+)\b", text)
    return first is not None and first[1].upper() in CLAUSES | WRITES and not text.rstrip().endswith(":")
