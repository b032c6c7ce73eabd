"""General rows of our own to replay in training: short questions and right answers; knows no trainer.

Reckoned where they can be (sums, sorting, spelling, forms), written by hand elsewhere (`tables`). They keep a small
chat model able to talk, reckon and follow a form; they teach it nothing new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.general import tables

_NAMES = "Ella Omar Lina Jonas Priya Mateo Hana Felix".split()
_THINGS = "marbles pens stamps cookies coins shells books cards".split()
_TENS = "twenty thirty forty fifty".split()
_PLAIN = "lamp bottle castle thunder ticket pepper bicycle museum island blanket".split()
_SORTED = "kiwi plum fig pear date lime mango peach grape cherry melon olive".split()
_FIELDS = (("animal", "horse"), ("country", "Peru"), ("colour", "green"), ("drink", "tea"), ("month", "June"))
_THREES = ("the wind", "a kitchen", "an old car", "a lake", "winter")
_THREE_WORDS = (
    "Restless, cool, invisible.",
    "Warm, bright, busy.",
    "Slow, loud, rusty.",
    "Deep, calm, blue.",
    "Cold, white, quiet.",
)
_Row = tuple[str | None, str, str]


def general_rows(seed: int = 0) -> list[Example]:
    """Give all rows.

    Args:
        seed: of the figures in sums and lists; 0 or more. The same seed gives the same rows.

    Returns:
        Rows of the origin ``general``, kind after kind; ids and prompts are unique.
    """
    made = {
        "sum": _sums(Random(f"{seed}:sum")),
        "story": _stories(Random(f"{seed}:story")),
        "talk": _table(tables.TALK, "{}"),
        "rewrite": _table(tables.REWRITES, "{}"),
        "meaning": _table(tables.MEANINGS, "What is the meaning of the word {}?"),
        "list": _lists(),
        "form": _forms(),
        "sort": _sorted(Random(f"{seed}:sort")),
        "spell": _spelled(),
        "translate": _translated(),
        "true": _statements(),
        "role": _roles(),
        "decline": _table(tables.DECLINED, "{}"),
    }
    return [
        _example(f"general-{name}-{number}", *row) for name, rows in made.items() for number, row in enumerate(rows)
    ]


def _example(id_: str, system: str | None, prompt: str, completion: str) -> Example:
    turns = [{"role": "system", "content": system}] if system else []
    return Example(id_, (*turns, {"role": "user", "content": prompt}), completion, origin="general")


def _table(text: str, form: str) -> Iterator[_Row]:
    for line in text.splitlines():
        asked, said = line.split("|")
        yield None, form.format(asked), said


def _sums(random: Random) -> Iterator[_Row]:
    for number in range(36):
        left, right = random.randint(11, 89), 2 + number  # the second is another each time: so is the prompt
        sign, result = (("plus", left + right), ("minus", left - right), ("times", left * right))[number % 3]
        if number % 2:
            yield None, f"How much is {left} {sign} {right}?", str(result)
        else:
            yield None, f"Work it out: {left} {sign} {right}", f"{left} {sign} {right} is {result}."
    for number, word in enumerate(_TENS, start=2):
        yield None, f"How much is {word} plus three, in figures?", str(number * 10 + 3)


def _stories(random: Random) -> Iterator[_Row]:
    for name, thing in zip(_NAMES, _THINGS, strict=True):
        first, second = random.randint(12, 40), random.randint(2, 11)
        yield None, f"{name} has {first} {thing} and buys {second}. How many now?", f"{first + second} {thing}."
        yield None, f"{name} owns {first} {thing} and loses {second}. How many remain?", f"{first - second} {thing}."


def _lists() -> Iterator[_Row]:
    for number, line in enumerate(tables.LISTS.splitlines()):
        name, listed = line.split("|")
        items = listed.split(", ")
        few, many = items[: 2 + number % 2], items[: 4 + number % 2]
        yield None, f"Name {len(few)} {name}, with commas between them.", ", ".join(few)
        yield None, f"Give me {len(many)} {name} as a list with hyphens.", "\n".join(f"- {each}" for each in many)


def _forms() -> Iterator[_Row]:
    for word in _PLAIN:
        yield None, f"Capitalise every letter of this word: {word}", word.upper()
    for name, value in _FIELDS:
        said = json.dumps({name: value})
        yield None, f'Put it into JSON with the key "{name}": {value}', said
        yield None, f"Which {name} stands in this JSON? {said}", value
    for subject, said in zip(_THREES, _THREE_WORDS, strict=True):
        yield None, f"Use exactly three words to describe {subject}.", said


def _sorted(random: Random) -> Iterator[_Row]:
    for size in (3, 4, 5, 3, 4, 5):
        words = random.sample(_SORTED, size)
        yield None, f"Sort by the alphabet: {', '.join(words)}", ", ".join(sorted(words))
        numbers = random.sample(range(100), size)
        rising = ", ".join(map(str, sorted(numbers)))
        yield None, f"Sort from small to large: {', '.join(map(str, numbers))}", rising


def _spelled() -> Iterator[_Row]:
    for word in _PLAIN:
        yield None, f"Spell {word} letter by letter, with blanks between the letters.", " ".join(word)
        yield None, f"How many letters has the word {word}?", str(len(word))
        yield None, f"What is the last letter of {word}?", word[-1]


def _translated() -> Iterator[_Row]:
    for line in tables.WORDS.splitlines():
        word, *others = line.split("|")
        for language, other in (each.split(" ") for each in others):
            yield None, f'Translate "{word}" into {language}.', other


def _statements() -> Iterator[_Row]:
    for true, false in zip(tables.TRUE.splitlines(), tables.FALSE.splitlines(), strict=True):
        yield None, f"True or false? {true}", "True"
        yield None, f"True or false? {false}", "False"


def _roles() -> Iterator[_Row]:
    for line in tables.ROLES.splitlines():
        system, asked, said = line.split("|")
        yield system, asked, said
