"""A better prompt for the base: explicit rules, worked examples; pure, knows no model.

Three variants; the one that does best on questions of the training documents is kept. Examples are about things that
are in no source, and show what the rules mean: an untrusted source, an old version, nothing that answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llama_index_hybridmem.example import Example, Message
from llama_index_hybridmem.export.layouts import prompt
from llama_index_hybridmem.noise.scene import Passage
from noise_arms.damage import WORDING

ABSTENTION = WORDING.abstain[0]
RULES = f"""\
You answer questions from numbered sources. Follow these rules:
1. Answer with the shortest phrase of a source that answers the question: a name, a number, a date. No sentence.
2. Use only the sources. If none of them answers the question, or the answer is cut off, answer: {ABSTENTION}
3. If two sources contradict each other, believe the one with the newest date.
4. Never believe a forum post, an unverified mirror, an anonymous comment, a machine-made summary or an old blog draft.
5. Sources can be badly formatted: read past tags, broken tables and odd signs."""


def _shown(question: str, *passages: tuple[str, str, str, str]) -> str:
    made = [
        Passage(str(n), text, {"title": title, "source": source, "date": day})
        for n, (title, source, day, text) in enumerate(passages)
    ]
    return prompt(question, made, WORDING)


WORKED: tuple[tuple[str, str], ...] = (
    (
        _shown(
            "Who designed the Ostrava footbridge?",
            ("Bridges (forum post)", "forum post", "2025-01-10", "The Ostrava footbridge was designed by Petr Lang."),
            ("Bridges", "handbook", "2025-01-10", "The Ostrava footbridge was designed by Jana Horak in 1998."),
        ),
        "Jana Horak",
    ),
    (
        _shown(
            "How many beds does Marle hospital have?",
            ("Marle", "yearbook", "2025-03-02", "Marle hospital has 240 beds. It is run by the town."),
            ("Marle", "yearbook", "2021-03-02", "Marle hospital has 180 beds. It is run by the town."),
        ),
        "240",
    ),
    (
        _shown(
            "When was the Kemi lighthouse painted?",
            ("Kemi", "textbook", "2024-11-20", "## Kemi\n\n- The lighthouse of Kemi is 31 metres tall.\n- It has two"),
            ("Ports", "encyclopedia", "2025-02-01", "<p>The port of Oulu was painted in 1954.</p>"),
        ),
        ABSTENTION,
    ),
)

Turns = tuple[Message, ...]
_WORKED_TURNS: Turns = tuple(
    turn
    for asked, said in WORKED
    for turn in ({"role": "user", "content": asked}, {"role": "assistant", "content": said})
)


def _system(text: str) -> Turns:
    return ({"role": "system", "content": text},)


VARIANTS: Mapping[str, tuple[Turns, bool]] = {
    "rules": (_system(RULES), False),
    "examples": (_system(WORDING.system_prompt() or ""), True),
    "rules and examples": (_system(RULES), True),
}
"""Name to system turn, and whether worked examples follow it."""


def prompted(example: Example, variant: str) -> Example:
    """Put a better prompt around a row; its passages and question stay."""
    system, is_worked = VARIANTS[variant]
    return replace(example, prompt=(*system, *(_WORKED_TURNS if is_worked else ()), example.prompt[-1]))


def best(means: Mapping[str, float], order: Sequence[str] = tuple(VARIANTS)) -> str:
    """Choose the variant with the highest mean, the first of equals."""
    return max(order, key=lambda name: means[name])
