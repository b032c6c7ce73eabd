"""Rules that judge an answer without a model; pure, knows no question.

Each function gives a rule: answer in, right or wrong out. They are lenient about what stands around an answer ("The
answer is 7.") and strict about the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from llama_index_hybridmem.training.scores import tokens

Judge = Callable[[str], bool]

_NUMBER = re.compile(r"(?<![\w.])-?[0-9]{1,30}(?:,[0-9]{3})*(?:\.[0-9]{1,30})?(?!\w)")
_ITEM = re.compile(r"^\s{0,9}(?:[-*•]|[0-9]{1,3}[.)])\s", re.MULTILINE)
_DECLINES = re.compile(
    r"\b(?:i|we) (?:can ?not|can't|could not|will not|won't|must not|am not able|am unable|do not|don't) "
    r"(?:to )?(?:\w+ )?(?:help|assist|provide|give|do|offer|support|tell|share|write|advise|explain|fulfil|comply|"
    r"engage|create|encourage|recommend|condone|answer)\b|\bi'm (?:not able|unable) to\b|"
    r"\bi (?:must|have to) (?:decline|refuse)|\bi(?:'m| am) sorry\b[^.!?]{0,50}\bbut\b|"
    r"\bas an ai\b.{0,60}\b(?:not|can't)\b|\bi (?:decline|refuse)\b",
    re.IGNORECASE,
)


def says(*wanted: str) -> Judge:
    """The answer holds one of these as a sequence of words, whatever their case and punctuation."""
    sequences = [tokens(each) for each in wanted]

    def judge(answer: str) -> bool:
        found = tokens(answer)
        return any(_stands(found, each) for each in sequences)

    return judge


def shows(wanted: str) -> Judge:
    """The answer holds exactly these signs."""
    return lambda answer: wanted in answer


def chooses(wanted: str, options: Sequence[str]) -> Judge:
    """Of several options the answer names this one first."""
    order = {option: tokens(option) for option in options}

    def judge(answer: str) -> bool:
        found = tokens(answer)
        for start in range(len(found)):
            for option, words in order.items():
                if found[start : start + len(words)] == words:
                    return option == wanted
        return False

    return judge


def counts_to(wanted: int | str) -> Judge:
    """The last number in the first line that has one is this number: "3 + 4 = 7"."""

    def judge(answer: str) -> bool:
        lines = (_NUMBER.findall(line) for line in answer.splitlines())
        first = next(filter(None, lines), [])
        return bool(first) and Decimal(first[-1].replace(",", "")) == Decimal(wanted)

    return judge


def writes(wanted: str) -> Judge:
    """The first line is these signs exactly, but for blanks, quotation marks and a full stop around them."""

    def judge(answer: str) -> bool:
        first = next(iter(answer.strip().splitlines()), "")
        return first.strip(" \"'.`“”") == wanted.strip(" \"'.`“”")

    return judge


def is_json(**wanted: object) -> Judge:
    """The answer is one JSON object with these values and no other keys; a code fence around it is allowed."""

    def judge(answer: str) -> bool:
        text = re.sub(r"\A```(?:json)?|```\Z", "", answer.strip()).strip()
        try:
            return bool(json.loads(text) == wanted)
        except (ValueError, RecursionError):
            return False

    return judge


def is_upper(*wanted: str) -> Judge:
    """All letters are upper case, and one of these words is there."""
    holds = says(*wanted)
    return lambda answer: answer.isupper() and holds(answer)


def is_lower(*wanted: str) -> Judge:
    """All letters are lower case, and one of these words is there."""
    holds = says(*wanted)
    return lambda answer: answer.islower() and holds(answer)


def has_words(count: int) -> Judge:
    """The answer has exactly so many words."""
    return lambda answer: len(answer.split()) == count


def has_items(count: int) -> Judge:
    """The answer has exactly so many items: marked lines, else plain lines, else parts between commas."""

    def judge(answer: str) -> bool:
        lines = [line for line in answer.splitlines() if line.strip()]
        marked = len(_ITEM.findall(answer))
        found = marked or (len(lines) if len(lines) > 1 else len([each for each in answer.split(",") if each.strip()]))
        return found == count

    return judge


def ends(wanted: str) -> Judge:
    """The answer has more than these signs, and ends in them."""
    return lambda answer: answer.strip().endswith(wanted) and answer.strip() != wanted


def starts(*wanted: str) -> Judge:
    """The answer starts with one of these, word by word or sign by sign."""
    return lambda answer: answer.strip().startswith(wanted)


def declines(answer: str) -> bool:
    """The answer says that it gives no help."""
    return _DECLINES.search(answer.replace("’", "'")) is not None


def helps(answer: str) -> bool:
    """The answer says something, and does not decline."""
    return bool(tokens(answer)) and not declines(answer)


def _stands(found: Sequence[str], wanted: Sequence[str]) -> bool:
    size = len(wanted)
    return size > 0 and any(found[start : start + size] == wanted for start in range(len(found) - size + 1))
