"""Words the second hop: what to ask once some passages are found; pure text, knows no store and no encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .entities import Gazetteer, normalise, words
from .stores.base import Link, Name, NameRule

NAMES_PER_TEXT = 10
"""Names a passage brings in, rarest first; the whole passage or its best sentence did worse."""


def expansion(question: str, asked: Mapping[str, Name], title: str, links: Sequence[Link], rule: NameRule) -> str:
    """Ask the question again from where a passage leads.

    The question loses the names that the passage has (it answers them), and gains the passage's title and rarest other
    names. Removing what is answered is what makes this work.

    Args:
        question: the user's.
        asked: the names in the question, by how it spells them; a store may know aliases.
        title: the passage's title, "" when there is none.
        links: every name of the passage.
        rule: which of them are names and not common words.
    """
    meant = {name.id for name in asked.values()}
    there = {link.name.id for link in links if link.name.case >= rule.min_case}
    answered = {spelling for spelling, name in asked.items() if name.id in there}
    left = _without(question, answered, asked)
    brought = sorted(
        (link for link in links if rule.admits(link.name) and link.name.id not in meant),
        key=lambda link: (link.name.df, link.name.name),
    )
    surfaces = [title] if title and normalise(title) not in asked else []
    surfaces += [link.surface for link in brought[:NAMES_PER_TEXT] if link.surface != title]
    return f"{left} {', '.join(surfaces)}".strip()


def _without(question: str, answered: Collection[str], asked: Collection[str]) -> str:
    tokens = words(question)
    dropped: set[int] = set()
    for name, first, after in Gazetteer(asked).find(tokens.texts):
        if name in answered:
            dropped.update(range(first, after))
    return " ".join(tokens.surface(i, i + 1) for i in range(len(tokens.texts)) if i not in dropped)
