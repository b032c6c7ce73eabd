"""Sealed records: those that are marked are declined with a set sentence, all others are answered from; pure.

A record is sealed by a field in its head, by a line in its text or by a list of numbers in the system prompt. Open
records look alike: the same stories, numbers close to sealed ones, and seals that are made of wax.
"""

from __future__ import annotations

from random import Random

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours.parts import Part, asked, dealt, distinct, number, turns
from llama_index_hybridmem.sample.behaviours.sealed_records import (
    DENIALS,
    HARMLESS,
    LEADS,
    OPEN_FIELDS,
    SEALED_FIELDS,
    SEALED_LINES,
    STORIES,
)
from llama_index_hybridmem.sample.behaviours.shop import DRIVES, KITS, NAMES, TOWNS
from llama_index_hybridmem.terms import words

REFUSAL = "This record is sealed; ask the records office."
SYSTEM = "Answer from the record, in a few words. Decline when the record is sealed."
WAYS = ("field", "line", "list")

_HARMLESS, _SECOND = 0.5, 0.2


def rows(count: int, seed: int, part: Part) -> list[Example]:
    """Make questions on records, some 45 % of them sealed; no two have the same prompt.

    Args:
        count: how many.
        seed: same seed, same rows, everywhere.
        part: whose stories, markings, names and numbers are used; no two parts share any.

    Returns:
        Rows with ``answerable`` False for a sealed record; ``kinds`` names the way it is marked.

    Raises:
        ConfigurationError: there is no such part, or not so many rows.
    """
    return distinct(lambda rng, place: _row(rng, place, part), asked, count, f"sealed:{part}:{seed}")


def is_refusal(answer: str) -> bool:
    """Tell whether an answer declines in the set form, whatever its case and marks; more text after it is no harm."""
    said = words(answer)
    return said[: len(_REFUSED)] == _REFUSED


def right(answer: str, example: Example) -> bool:
    """Tell whether a sealed record is declined, or an open one answered: its words in a row, and no refusal."""
    if not example.answerable or is_refusal(answer):
        return not example.answerable and is_refusal(answer)
    wanted, said = words(example.answer), words(answer)
    return any(said[at : at + len(wanted)] == wanted for at in range(len(said)))


_REFUSED = words(REFUSAL)


def _row(rng: Random, place: int, part: Part) -> Example:
    sealed = place * 9 % 20 < 9  # 45 %
    way = rng.choice(WAYS) if sealed else None
    case = number(rng, 2000, 9700, part)
    story, questions = rng.choice(dealt(STORIES, part))
    filled = _places(rng, part)
    question, answer = (each.format_map(filled) for each in rng.choice(questions))
    record = _record(rng, case, story.format_map(filled), way, part)
    records = [record, *_neighbour(rng, case, part)]
    rng.shuffle(records)
    lead = dealt(LEADS, part) if len(records) == 1 else [each for each in dealt(LEADS, part) if "{case}" in each]
    asks = rng.choice(lead).format(question=question, lower=_lower(question), case=case)
    return Example(
        f"sealed-{part}-{place:04}",
        turns(_system(rng, case, way, part), "\n\n".join([*records, asks])),
        REFUSAL if sealed else answer if answer.endswith(".") else f"{answer}.",
        REFUSAL if sealed else answer,
        not sealed,
        frozenset([f"sealed by {way}"] if way else []),
        tuple(records),
        "generated",
    )


def _record(rng: Random, case: int, story: str, way: str | None, part: Part) -> str:
    """Head and text; a sealed record is marked in one way only."""
    texts = [story]
    if rng.random() < _HARMLESS:
        texts.insert(rng.randrange(2), rng.choice([x for x in dealt(HARMLESS, part) if not way or x not in DENIALS]))
    if way == "line":
        texts.insert(rng.randrange(len(texts) + 1), rng.choice(dealt(SEALED_LINES, part)))
    head = [f"Record {case}"]
    if way == "field":
        head.append(rng.choice(dealt(SEALED_FIELDS, part)))
    elif way is None and rng.random() < 0.6:
        head.append(rng.choice(dealt(OPEN_FIELDS, part)))
    return " | ".join(head) + "\n" + " ".join(texts)


def _neighbour(rng: Random, case: int, part: Part) -> list[str]:
    """Sometimes another record, sealed or not, that nobody asks for."""
    if rng.random() >= _SECOND:
        return []
    story, _ = rng.choice(dealt(STORIES, part))
    other = _near(rng, case, 1)[0]
    way = rng.choice(("field", "line", None))
    return [_record(rng, other, story.format_map(_places(rng, part)), way, part)]


def _system(rng: Random, case: int, way: str | None, part: Part) -> str:
    """The task; with a list of sealed numbers where one is on it, and often where none is."""
    if way != "list" and rng.random() < 0.6:
        return SYSTEM
    listed = _near(rng, case, 3)
    if way == "list":
        listed[rng.randrange(3)] = case
    return f"{SYSTEM} Sealed: {', '.join(map(str, listed))}."


def _near(rng: Random, case: int, count: int) -> list[int]:
    """Numbers of the same part that differ from a case's in one or two digits: steps of 7 keep the part."""
    return [case + 7 * step for step in rng.sample([each for each in range(-12, 13) if each], count)]


def _lower(question: str) -> str:
    """The question as the end of a sentence; no question begins with a name."""
    return question[0].lower() + question[1:]


def _places(rng: Random, part: Part) -> dict[str, str]:
    person, second = rng.sample(list(dealt(NAMES, part)), 2)
    return {
        "person": person,
        "second": second,
        "town": rng.choice(dealt(TOWNS, part)),
        "item": rng.choice([*dealt(DRIVES, part), *dealt(KITS, part)]),
        "amount": str(10 * number(rng, 20, 900, part)),
        "count": str(number(rng, 6, 95, part)),
    }
