"""Figures and names in an answer that the passages do not have; pure, knows no language model.

What a model is trained to say without having read it, it learns to make up. Prices, dates, quantities and names can be
looked up word by word; other statements cannot, and are not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from llama_index_hybridmem.export.record import Record
from llama_index_hybridmem.noise.scene import SOURCE_FIELDS
from llama_index_hybridmem.terms import STOPWORDS, words

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_PRICE = re.compile(r"[$€£¥₹]\s?\d[\d.,]*|\d[\d.,]*\s?(?:[$€£¥₹]|(?:USD|EUR|GBP|dollars?|euros?|pounds?|cents?)\b)")
_DATE = re.compile(
    rf"\d{{4}}-\d\d(?:-\d\d)?|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
    rf"|(?:\d{{1,2}}\.?\s)?\b(?:{_MONTHS})[a-z]*\.?\s\d{{1,4}}(?:,?\s\d{{4}})?|(?<![\d.,])(?:1\d|20)\d\d(?![\d.,]*\d)",
    re.IGNORECASE,
)
_QUANTITY = re.compile(r"\d[\d.,]*")
_CAPITALISED = re.compile(r"[^\W\d_a-z][^\W_]*(?:[-'’][^\W_]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+|\n)[\"'“‘(\[]*$")
_MARK = re.compile(r"\[\d+\]")
_QUOTED = re.compile(r"[\"“”„]([^\"“”„]{12,400})[\"“”]")


class Fact(NamedTuple):
    """Something in an answer that can be looked up.

    Attributes:
        kind: "price", "date", "quantity", "name" or "quotation".
        text: as the answer has it.
    """

    kind: str
    text: str


def unsupported(record: Record) -> tuple[Fact, ...]:
    """Find the facts of an answer that neither its noisy passages nor its question have; () for an abstention.

    Args:
        record: looked at are its answer, its question, and of its passages texts, titles, sources and dates.
    """
    if not record.answerable:
        return ()
    answer = _MARK.sub("", record.answer)
    read = " ".join((record.question, *(f"{each.text} {_visible(each.metadata)}" for each in record.noisy)))
    folded = read.casefold()
    open_ones = [fact for fact in facts(answer) if fact.text.casefold() not in folded]
    if not open_ones:
        return ()
    known = set(words(read))
    return tuple(fact for fact in open_ones if fact.kind == "quotation" or not known.issuperset(words(fact.text)))


def facts(answer: str) -> Iterator[Fact]:
    """Find what can be looked up in an answer, each stretch of it once."""
    for kind, pattern in (("price", _PRICE), ("date", _DATE), ("quantity", _QUANTITY)):
        for match in pattern.finditer(answer):
            yield Fact(kind, match.group().rstrip(".,"))
        answer = pattern.sub(lambda found: " " * len(found.group()), answer)
    for match in _CAPITALISED.finditer(answer):
        word = match.group()
        first = _SENTENCE_START.search(answer, max(0, match.start() - 4), match.start())
        if word[0].isupper() and word.casefold() not in STOPWORDS and not (first and _is_plain(word, answer)):
            yield Fact("name", word)
    for match in _QUOTED.finditer(answer):
        yield Fact("quotation", match[1].strip())


def _is_plain(word: str, answer: str) -> bool:
    """Whether a word may have its capital only for starting a sentence: a sentence, then, not a bare name."""
    return word[1:].islower() and len(answer.split()) > 4


def _visible(metadata: object) -> str:
    if not isinstance(metadata, dict) or not metadata:
        return ""
    return " ".join(
        str(value) for name, value in metadata.items() if name not in SOURCE_FIELDS or len(str(value)) < 200
    )
