"""A fact's answer as its document writes it, and the sentence or row that says it; pure, knows no question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.terms import content_stems, sentences

_YEAR = "year"


def answer_in(value: str, unit: str, text: str) -> str:
    """The value as a text writes it, with its unit where it stands there.

    Raises:
        ConfigurationError: the text has it in none of the usual forms.
    """
    found = next((each for each in _forms(value, unit) if holds(text, each)), None)
    if found is None:
        raise ConfigurationError(f"{value} {unit}: the document does not say it; give the answer in wordings.csv")
    return found


def _forms(value: str, unit: str) -> list[str]:
    numbers = [f"{int(value):,}", value] if value.isdigit() and unit != _YEAR else [value]
    if unit in ("", _YEAR):
        return numbers
    units = (unit, unit.replace("/", " per "), unit.removesuffix("s"))
    return [f"{number}{mark}{each}" for each in units for mark in (" ", "", "-") for number in numbers] + numbers


def holds(text: str, answer: str) -> bool:
    """Whether an answer stands in a text, letter by letter, as whole words."""
    return bool(re.search(rf"(?<![\w.,]){re.escape(answer)}(?!\w|[.,]\d)", text))


def quote_of(text: str, answer: str, about: Sequence[str]) -> str:
    """The sentence or row of a text that holds an answer and most of the words that it is about.

    What is told several times counts as often.

    Raises:
        ConfigurationError: none holds it.
    """
    sought = [set(content_stems(words)) for words in about]
    lines = (line.removeprefix("- ") for line in text.splitlines())
    found = [each for line in lines for each in sentences(line) if holds(each, answer) and each in text]
    if not found:
        raise ConfigurationError(f"{answer}: no sentence of the document holds it")
    return max(found, key=lambda each: sum(len(stems.intersection(content_stems(each))) for stems in sought))


def row_of(table: str, entity: str, attribute: str) -> str:
    """The row of a table of facts that states an attribute."""
    return next(line for line in table.splitlines() if line.startswith(f"| {entity} | {attribute} |"))
