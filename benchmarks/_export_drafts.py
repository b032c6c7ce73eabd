"""Drafts for `export.py`: questions with five passages of about 150 words, made of the sample documents' own texts.

No passage occurs twice, and hardly an answer, so that nothing which is kept of a text can be used again. Two in five
have a table, a list or a code fence, and a link, besides the heading that each has; knows no operator and no export.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from random import Random

from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.sample import documents_folder, facts_path
from llama_index_hybridmem.terms import sentences

WORDS = 150
TOP_K = 5
STRUCTURED = 0.4
"""Share of the passages with more Markdown than a heading."""
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def drafts(count: int, seed: int, *, near: int = 0) -> Iterator[Draft]:
    """Make drafts, each of its own random numbers; one of the passages answers, at a drawn rank.

    Args:
        count: how many.
        seed: the same seed gives the same drafts.
        near: passages that were found beyond the five.
    """
    for number in range(count):
        draw = Random(f"{seed}:{number}")
        fact = draw.choice(_facts())
        answer = f"{draw.randrange(10, 100_000):,} {fact['unit']}" if fact["unit"] else fact["value"]
        told = f"The {fact['attribute']} of {fact['entity']} is {answer}."
        rank = draw.randrange(TOP_K)
        found = [_passage(f"{number}-{at}", told if at == rank else "", draw) for at in range(TOP_K + near)]
        question = f"What is the {fact['attribute']} of {fact['entity']}?"
        scene = Scene(question, tuple(found[:TOP_K]), tuple(found[TOP_K:]), frozenset([found[rank].id]), answer)
        yield Draft(f"q{number:07}", scene)


def _passage(id_: str, told: str, draw: Random) -> Passage:
    block = draw.choice((_table, _list, _fence))(draw) if draw.random() < STRUCTURED else ""
    wanted = WORDS - len(block.split())
    pieces = [told] if told else []
    while sum(piece.count(" ") + 1 for piece in pieces) < wanted:
        pieces.append(draw.choice(_sentences()))
    draw.shuffle(pieces)
    middle = len(pieces) // 2
    heading, name = draw.choice(_headings()), draw.choice(_names())
    parts = [f"## {heading}", " ".join(pieces[:middle]), block, " ".join(pieces[middle:])]
    text = "\n\n".join(part for part in parts if part)
    if block:
        text += f" See [{heading.lower()}](../{name}.md#more)."
    metadata = {
        "title": name.replace("-", " ").capitalize(),
        "file_name": f"{name}.md",
        "last_modified_date": (date(2024, 1, 1) + timedelta(days=draw.randrange(600))).isoformat(),
    }
    return Passage(id_, text, metadata, f"{name}-{draw.randrange(5000)}", round(draw.random(), 4))


def _table(draw: Random) -> str:
    rows = [f"| {' | '.join((each['entity'], each['attribute'], each['value']))} |" for each in _some_facts(draw)]
    return "\n".join(["| entity | attribute | value |", "|---|---|---|", *rows])


def _list(draw: Random) -> str:
    return "\n".join(
        f"- {each['attribute'].capitalize()}: {each['value']} {each['unit']}" for each in _some_facts(draw)
    )


def _fence(draw: Random) -> str:
    lines = [f"{each['attribute'].replace(' ', '_')} = {each['value']!r}" for each in _some_facts(draw)]
    return "\n".join(["```toml", f"[{draw.choice(_names())}]", *lines, "```"])


def _some_facts(draw: Random) -> list[dict[str, str]]:
    return draw.sample(_facts(), draw.randint(3, 6))


@cache
def _facts() -> list[dict[str, str]]:
    with facts_path().open(encoding="utf-8", newline="") as file:
        return [{**row, "unit": row["unit"] or ""} for row in csv.DictReader(file)]


@cache
def _texts() -> list[str]:
    """The documents without their tables of facts."""
    return [path.read_text(encoding="utf-8").split("## Facts")[0] for path in sorted(documents_folder().glob("*.md"))]


@cache
def _sentences() -> list[str]:
    return [each for text in _texts() for each in sentences(_HEADING.sub("", text)) if len(each) > 20]


@cache
def _headings() -> list[str]:
    return [each for text in _texts() for each in _HEADING.findall(text)]


@cache
def _names() -> list[str]:
    return [path.stem for path in sorted(documents_folder().glob("*.md"))]
