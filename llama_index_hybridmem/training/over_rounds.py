"""What a candidate says to the rows of all rounds, and whether earlier candidates said it better; asks no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.candidates import ANSWERS, Answered, said_then
from llama_index_hybridmem.training.rounds import FIRST, ROUNDS, Part
from llama_index_hybridmem.training.scores import score, summarise
from llama_index_hybridmem.training.verdict import Verdict, judge


def since_then(
    parts: Sequence[Part],
    workspace: Path,
    now: Answered,
    asked: Sequence[Example],
    abstain: Sequence[str],
    margin: float,
) -> Verdict | None:
    """Compare with what each earlier round's own candidate said to that round's rows.

    Against the promoted version alone, a loss within the margin could come again in every round.

    Args:
        parts: of the earlier rounds.
        workspace: where they lie.
        now: what the candidate says.
        asked: to which rows.
        abstain: wordings of abstention.
        margin: see `verdict.judge`.

    Returns:
        the verdict; None without an earlier round's rows.
    """
    then: dict[str, str] = {}
    for part in parts:
        if part.name != FIRST:
            said = said_then(workspace / ROUNDS / part.name / ANSWERS)
            then |= {each.id: said[each.id] for each in part.held_back if each.id in said}
    both = [(each, new) for each, new in zip(asked, now.scores, strict=True) if each.id in then]
    if not both:
        return None
    rows = [each for each, _ in both]
    old = [score(then[each.id], each, abstain) for each in rows]
    return judge(old, [new for _, new in both], rows, margin=margin, name="earlier candidates in their own rounds")


def by_round(
    parts: Sequence[Part], answered: Mapping[str, Answered], asked: Sequence[Example]
) -> dict[str, dict[str, Any]]:
    """Sum up what each says to the rows of each round, as plain JSON types."""
    places = {each.id: place for place, each in enumerate(asked)}
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        at = [places[each.id] for each in part.held_back]
        found[part.name] = {
            name: summarise([said.scores[place] for place in at], part.held_back).to_json()
            for name, said in answered.items()
        }
    return found
