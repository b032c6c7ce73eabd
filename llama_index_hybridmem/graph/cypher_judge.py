"""Certain to read only, or refused: one query of Cypher judged word by word; knows no database and no language model.

The judge reads from left to right and knows at each word whether a clause, an operand or an operator may stand there.
Only listed words pass as clause or operator, only listed names as function or procedure; what stands for an operand is
a name, a label, a property or a value. So a property may be called `set` and a label `Create`, and a clause that this
module has never heard of is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from .cypher_tokens import CypherProblem, Token, tokens

MAX_LENGTH = 10_000
MAX_DEPTH = 30

CLAUSES = frozenset("MATCH OPTIONAL WHERE WITH RETURN ORDER SKIP OFFSET LIMIT UNWIND UNION CALL YIELD".split())
WRITES = frozenset("CREATE INSERT MERGE SET DELETE DETACH NODETACH REMOVE FOREACH LOAD DROP CALL".split())
"""Refused as names, too: should the judge ever lose its place, none of these gets by."""
_OPERATORS = frozenset("AND OR XOR IN IS CONTAINS AS WHERE".split())
_CASE = frozenset("WHEN THEN ELSE".split())
_ORDERS = frozenset("ASC ASCENDING DESC DESCENDING".split())
_SUBQUERIES = frozenset("EXISTS COUNT COLLECT".split())
_SELECTORS = frozenset("ANY ALL SHORTEST PATH PATHS GROUP GROUPS".split())
_LABEL_SIGNS = frozenset(":|&!%()")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class _Expect(Enum):
    CLAUSE = auto()
    OPERAND = auto()
    OPERATOR = auto()


@dataclass
class _Frame:
    """What is open: the whole query, a bracket, a subquery or a CASE.

    Attributes:
        closing: what ends it.
        expect: what may come next.
        clauses: whether clauses stand in it.
        pattern: whether it is (now) a pattern, where `+` and `*` say how often.
        relationship: whether it is (now) the inside of -[ ]-.
        keys: whether it is a map or properties.
        label: whether label signs and names continue a label expression.
    """

    closing: str
    expect: _Expect = _Expect.OPERAND
    clauses: bool = False
    pattern: bool = False
    relationship: bool = False
    keys: bool = False
    label: bool = False


class Judge:
    """Reads one query and raises at the first thing that is not certain to read.

    Args:
        cypher: the query.
        procedures: those that may be called, spelled as the server has them.
        functions: those that may be called, in lower case.
        max_hops: bound that a variable-length path must have; None: none needed.

    Raises:
        CypherProblem: it is too long, or can be read in two ways.
    """

    def __init__(
        self, cypher: str, procedures: Collection[str], functions: Collection[str], max_hops: int | None
    ) -> None:
        if len(cypher) > MAX_LENGTH:
            raise CypherProblem(f"{len(cypher)} characters; at most {MAX_LENGTH}", 0)
        self._tokens = tokens(cypher)
        self._procedures, self._functions, self._max_hops = procedures, functions, max_hops
        self._at = 0
        self._frames = [_Frame("", _Expect.CLAUSE, clauses=True)]
        self._chain: list[str] = []  # the dotted name that was read last; what "(" would call
        self._clauses: list[str] = []

    def judge(self) -> list[str]:
        """Return the clauses of the query itself, without those of its subqueries.

        Raises:
            CypherProblem: it is not certain to read only.
        """
        while (token := self._tokens[self._at]).kind != "end":
            self._read(token, self._frames[-1])
            self._at += 1
        if len(self._frames) > 1:
            raise CypherProblem(f"{self._frames[-1].closing} is missing", token.at)
        if "RETURN" not in self._clauses and self._clauses[:1] != ["CALL"]:
            raise CypherProblem("nothing is returned", token.at)
        return self._clauses

    def _read(self, token: Token, frame: _Frame) -> None:
        if token.kind == "word":
            self._word(token, frame)
        elif token.kind != "symbol":
            self._value(token, frame)
        elif token.text in "([{":
            self._open(token, frame)
        elif token.text in ")]}":
            self._close(token, frame)
        else:
            self._sign(token, frame)

    def _peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _before(self) -> str:
        return self._tokens[self._at - 1].text if self._at else ""

    # Words

    def _word(self, token: Token, frame: _Frame) -> None:
        if frame.expect is _Expect.CLAUSE:
            self._clause(token, frame)
        elif frame.expect is _Expect.OPERATOR:
            self._operator(token, frame)
        elif self._is_name(frame):
            self._named(token.text, frame)
        elif token.word in WRITES:
            raise CypherProblem(f"{token.text} where a value belongs; as a name it needs backticks", token.at)
        else:
            self._operand(token, frame)

    def _is_name(self, frame: _Frame) -> bool:
        """Whether a word can be nothing but a property, a label or a key."""
        is_key = frame.keys and self._peek().text == ":" and self._before() in ("{", ",")
        return self._before() == "." or frame.label or is_key

    def _named(self, name: str, frame: _Frame) -> None:
        self._chain = [*self._chain, name] if self._before() == "." else [name]
        frame.expect = _Expect.OPERATOR

    def _operand(self, token: Token, frame: _Frame) -> None:
        """Read a word in front of or in place of an operand."""
        word, following = token.word, self._peek()
        selects = frame.pattern and frame.clauses and word in _SELECTORS
        if word in ("NOT", "DISTINCT") or selects and (following.kind in ("word", "number") or following.text == "("):
            return
        if word == "CASE" and _begins_value(following):
            self._push(_Frame("END"), token)
        elif word == "WHEN" and self._before().upper() == "CASE" and frame.closing == "END":
            return
        elif word in _SUBQUERIES and following.text == "{":
            self._at += 1
            self._subquery(self._peek(), frame)
        else:
            self._named(token.text, frame)

    def _operator(self, token: Token, frame: _Frame) -> None:
        """Read a word after an operand."""
        word = token.word
        self._chain, frame.label = [], False
        in_case = frame.closing == "END"
        if frame.clauses and word in CLAUSES:
            self._clause(token, frame)
        elif word in _OPERATORS or in_case and word in _CASE:
            frame.expect = _Expect.OPERAND
            if word == "WHERE":
                frame.pattern = frame.relationship = False
        elif word in ("STARTS", "ENDS") and self._peek().word == "WITH":
            self._at += 1
            frame.expect = _Expect.OPERAND
        elif in_case and word == "END":
            self._pop()
        elif word not in _ORDERS:
            raise CypherProblem(_unwanted(token), token.at)

    # Clauses

    def _clause(self, token: Token, frame: _Frame) -> None:
        word, following = token.word, self._peek().word
        pairs = {"OPTIONAL": ("MATCH", "CALL"), "ORDER": ("BY",)}
        if word not in CLAUSES or following not in pairs.get(word, (following,)):
            raise CypherProblem(_unwanted(token), token.at)
        if word in pairs:
            self._at += 1
        word = following if word == "OPTIONAL" else word
        if len(self._frames) == 1:
            self._clauses.append(word)
        frame.pattern, frame.expect = word == "MATCH", _Expect.OPERAND
        if word == "UNION":
            self._at += following in ("ALL", "DISTINCT")
            frame.expect = _Expect.CLAUSE
        elif word == "CALL":
            self._call(frame)

    def _call(self, frame: _Frame) -> None:
        """Read what follows CALL: a subquery, or the name of a procedure."""
        if self._peek().text in ("(", "{"):
            self._at += 1
            frame.expect = _Expect.CLAUSE
            self._scope()
            self._push(_Frame("}", _Expect.CLAUSE, clauses=True), self._tokens[self._at])
            return
        start = self._at + 1
        while self._peek().kind == "word" and self._peek(2).text == ".":
            self._at += 2
        self._at += 1
        frame.expect = _Expect.OPERATOR
        name = "".join(token.text for token in self._tokens[start : self._at + 1])
        if name not in self._procedures:
            raise CypherProblem(f"procedure {name!r} is not allowed", self._tokens[start].at)

    def _scope(self) -> None:
        """Step over the variables in CALL (a, b) { … }, up to the brace."""
        if self._tokens[self._at].text == "(":
            while (token := self._peek()).kind in ("word", "name") or token.text in (",", "*"):
                self._at += 1
            if self._peek().text != ")" or self._peek(2).text != "{":
                raise CypherProblem("CALL without a subquery after its variables", token.at)
            self._at += 2

    def _subquery(self, first: Token, frame: _Frame) -> None:
        """Enter EXISTS { … }, which holds a query, or a pattern alone; the brace was read."""
        frame.expect = _Expect.OPERATOR
        is_pattern = first.text == "(" or self._peek(2).text == "="
        expect = _Expect.OPERAND if is_pattern else _Expect.CLAUSE
        self._push(_Frame("}", expect, clauses=True, pattern=is_pattern), first)

    # Values, brackets and signs

    def _value(self, token: Token, frame: _Frame) -> None:
        """Read a string, a number, a parameter, or a name in backticks."""
        if frame.expect is not _Expect.OPERAND:
            wanted = "a clause" if frame.expect is _Expect.CLAUSE else "an operator or a clause"
            raise CypherProblem(f"{token.text:.40} where {wanted} belongs", token.at)
        if token.kind == "name":
            self._named(token.text, frame)
        elif not (token.kind == "number" and frame.pattern and frame.clauses):  # SHORTEST 2 (a)-->(b)
            self._chain, frame.expect = [], _Expect.OPERATOR

    def _open(self, token: Token, frame: _Frame) -> None:
        operand = frame.expect is _Expect.OPERAND
        if frame.expect is _Expect.CLAUSE:
            raise CypherProblem(f"{token.text} where a clause belongs", token.at)
        following = self._peek()
        if token.text == "{" and frame.pattern and (following.kind == "number" or following.text == ","):
            self._quantifier(token)
            return
        called = ".".join(self._chain)
        if token.text == "(" and called and called.lower() not in self._functions:
            raise CypherProblem(f"function {called} is not allowed", token.at)
        frame.expect = _Expect.OPERATOR
        inner = _Frame(_CLOSING[token.text], keys=token.text == "{")
        inner.relationship = token.text == "[" and operand and self._before() == "-"
        inner.pattern = token.text == "(" and frame.pattern
        inner.label = token.text == "(" and frame.label
        frame.label = inner.label
        self._push(inner, token)

    def _close(self, token: Token, frame: _Frame) -> None:
        if token.text != frame.closing:
            wanted = f"; {frame.closing} is open" if frame.closing else ""
            raise CypherProblem(f"{token.text} closes nothing{wanted}", token.at)
        self._pop()

    def _push(self, frame: _Frame, token: Token) -> None:
        if len(self._frames) > MAX_DEPTH:
            raise CypherProblem(f"more than {MAX_DEPTH} levels", token.at)
        self._chain = []
        self._frames.append(frame)

    def _pop(self) -> None:
        closed = self._frames.pop()
        self._chain = []
        if closed.closing == "END":
            self._frames[-1].expect = _Expect.OPERATOR

    def _sign(self, token: Token, frame: _Frame) -> None:
        text = token.text
        if text == ";" or frame.expect is _Expect.CLAUSE:
            what = "several statements" if text == ";" else f"{text} where a clause belongs"
            raise CypherProblem(what, token.at)
        if text == "." and frame.expect is _Expect.OPERATOR:
            self._chain = self._chain or [""]  # what follows is a property of something, no function of that name
            frame.expect = _Expect.OPERAND
            return
        self._chain = [""] if text == "." else []
        frame.label = text in _LABEL_SIGNS and (frame.label or text == ":" and not frame.keys)
        if text == "*" and frame.relationship:
            self._range(token, frame)
        elif text in "*+" and frame.pattern:
            self._bound(None, token)
        elif not (text in "*%" and frame.expect is _Expect.OPERAND):  # RETURN * and n:% are operands
            frame.expect = _Expect.OPERAND
        else:
            frame.expect = _Expect.OPERATOR

    # Path lengths

    def _range(self, token: Token, frame: _Frame) -> None:
        """Read what follows * in -[*1..3]-."""
        numbers = self._bounds("..")
        frame.expect = _Expect.OPERATOR
        self._bound(numbers, token)

    def _quantifier(self, token: Token) -> None:
        """Read {1,3} after a part of a pattern."""
        numbers = self._bounds(",")
        self._at += 1
        if self._tokens[self._at].text != "}":
            raise CypherProblem("} is missing", self._tokens[self._at].at)
        self._bound(numbers, token)

    def _bounds(self, separator: str) -> str | None:
        """Read "n", "n separator m" or parts of it; return the upper bound."""
        upper: str | None = None
        if self._peek().kind == "number":
            self._at += 1
            upper = self._tokens[self._at].text
        if self._peek().text == separator:
            self._at += 1
            upper = None
            if self._peek().kind == "number":
                self._at += 1
                upper = self._tokens[self._at].text
        return upper

    def _bound(self, upper: str | None, token: Token) -> None:
        if self._max_hops is None:
            return
        if upper is None or not upper.isdecimal() or len(upper) > 9 or int(upper) > self._max_hops:
            raise CypherProblem(f"a path of up to {upper or 'any number of'} steps; at most {self._max_hops}", token.at)


def _begins_value(token: Token) -> bool:
    """Whether a token can be the first of a value, so that a CASE in front of it is no variable's name."""
    if token.kind == "symbol":
        return token.text in "([{"
    return token.kind != "end" and token.word not in _OPERATORS | CLAUSES


def _unwanted(token: Token) -> str:
    allowed = ", ".join(sorted(CLAUSES))
    return f"{token.text:.40} is no clause or operator that is certain to read; clauses allowed: {allowed}"
