"""A question with what it is drawn from, and the drawing of its phrasing; pure, knows no document's text."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from llama_index_hybridmem.sample.asking.phrasings import AS_IS, Form, Frame, framed, frames
from llama_index_hybridmem.sample.asking.sheets import Wording

TEST = "test"


@dataclass(frozen=True)
class Question:
    """A question of the generated file; see `row` for what is written."""

    key: str
    text: str
    kind: str
    answer: str | None
    sources: tuple[str, ...]
    quotes: tuple[str, ...]
    domain: str
    phrasing: str
    split: str
    twin_of: str | None = None

    def row(self, number: int) -> dict[str, Any]:
        """The row as it is written, with an id that holds as long as the sheets and the seed do."""
        found: dict[str, Any] = {
            "id": f"generated-{number:04}",
            "question": self.text,
            "kind": self.kind,
            "expected_sources": list(self.sources),
            "answer": self.answer,
            "answerable": self.answer is not None,
            "quotes": list(self.quotes),
            "domain": self.domain,
            "phrasing": self.phrasing,
            "split": self.split,
        }
        return found if self.twin_of is None else {**found, "twin_of": self.twin_of}


@dataclass(frozen=True)
class Phrased:
    """A wording in a frame, for any name: a twin takes the one of its original."""

    phrasing: str
    frame: Frame
    wording: str

    def text(self, name: str, short: str) -> str:
        """The question about a name."""
        found = _BEFORE_VOWEL.sub(r"\1n ", framed(self.frame, self.wording, name, short))
        return found[:1].upper() + found[1:] if found.startswith(("the ", "a ", "an ")) else found


def phrased(wording: Wording, form: Form, split: str, rng: random.Random, shared: bool) -> Phrased:
    """Draw a phrasing for one part.

    Args:
        wording: of the fact.
        form: direct, clause or keywords.
        split: the test part has frames, and wordings of shared attributes, that no other part has.
        rng: of this question.
        shared: whether test and the other parts both ask for this attribute.
    """
    held_out = split == TEST
    choices: list[tuple[str, str]] = []
    if form == "direct":
        choices = [("direct", wording.direct), ("again", wording.again)]
        choices = choices[int(held_out) :][:1] if shared else choices
    named, text = rng.choice(choices) if choices else (form, str(getattr(wording, form)))
    bare = form == "direct" or (form == "keywords" and not shared)
    if bare and rng.random() < _BARE[form]:
        return Phrased(f"{_slug(wording.attribute)}-{named}", AS_IS[form], text)
    frame = rng.choice(frames(form, held_out=held_out))
    return Phrased(frame.id, frame, text)


_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=HBM|HLC|LPDDR|NVDIMM|NRAM|ONFI|SLC|SRAM|SOT|STT|eDRAM|M-PHY|X-NAND|XL-)")
"""What is spoken with a vowel first takes "an", however it is written."""
_BARE = {"direct": 0.75, "keywords": 0.5}
"""Shares of questions and keywords that stand as they are."""


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.casefold()).strip("-")


def folded(text: str) -> str:
    """A question without case and marks: what makes two of them the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))
