"""Cypher cut into tokens, strictly: whatever could be read in two ways is refused; knows no grammar and no database."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_NAME = r"`(?:[^`]|``)+`"
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\r\n]+)
    | (?P<comment>//|/\*)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<name>{_NAME})
    | (?P<parameter>\$(?:\w+|{_NAME}))
    | (?P<number>0[xX][0-9a-fA-F]+|0o[0-7]+|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<symbol>\.\.|=~|[()\[\]{{}},.:;|&!%=<>+\-*/^])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HALF = re.compile(r"[\ud800-\udfff]")
# Neo4j 5 decodes \u0027 before it looks for the end of a string, so that a string could end where we see none.
_ESCAPED = re.compile(r"\\[uU]")
_UNCLOSED = {"'": "a string", '"': "a string", "`": "a backticked name"}


class Token(NamedTuple):
    """A piece of a query.

    Attributes:
        kind: "word", "name" (in backticks), "string", "parameter", "number", "symbol" or "end".
        text: as it is written.
        at: index of its first character.
    """

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """The word in capitals; "" for what is no word, a name in backticks included."""
        return self.text.upper() if self.kind == "word" else ""


class CypherProblem(Exception):
    """Something in a query that is not to be run; `what` says it, `at` is the index of the character."""

    def __init__(self, what: str, at: int) -> None:
        self.what = what
        self.at = at
        super().__init__(what)


def tokens(text: str) -> list[Token]:
    """Cut a query into tokens, an "end" token last.

    Raises:
        CypherProblem: a comment, a unicode escape, a character other than plain ASCII outside strings and backticked
            names, a control character, a lone surrogate, or a string that is not closed.
    """
    for pattern, what in ((_CONTROL, "control character"), (_HALF, "half a character"), (_ESCAPED, "unicode escape")):
        if found := pattern.search(text):
            raise CypherProblem(f"{what} {found.group()!r}", found.start())
    cut, at = [], 0
    while at < len(text):
        token = _next(text, at)
        at += len(token.text)
        if token.kind != "space":
            cut.append(token)
    return [*cut, Token("end", "", len(text))]


def _next(text: str, at: int) -> Token:
    found = _TOKEN.match(text, at)
    if found is None:
        raise CypherProblem(_stranger(text[at]), at)
    token = Token(str(found.lastgroup), found.group(), at)
    if token.kind == "comment":
        raise CypherProblem("a comment", at)
    # Servers disagree on 1SET and 1.SET: one number, a number and a word, or a property of a number.
    if token.kind == "number" and re.match(r"\w|\.(?!\.)", text[found.end() : found.end() + 2], re.ASCII):
        raise CypherProblem(f"a number with something attached: {text[at : found.end() + 2]!r}", at)
    return token


def _stranger(character: str) -> str:
    if character in _UNCLOSED:
        return f"{_UNCLOSED[character]} that is empty or not closed"
    if character.isascii():
        return f"unexpected character {character!r}"
    name = unicodedata.name(character, "a character without a name")
    return f"U+{ord(character):04X} {name} outside a string; a name with it belongs in backticks"
