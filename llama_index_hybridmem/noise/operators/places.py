"""Draws which places of a text are hit, skipping from hit to hit; pure, knows no operator."""

from __future__ import annotations

import math
import re
from random import Random

FAINTEST = 1e-9
"""The smallest share that is told from none: below it, the gap to the next hit would overflow."""


def hits(n: int, share: float, draw: Random) -> list[int]:
    """Draw which of n places are hit, each with the same chance; one random number per hit, not per place.

    Args:
        n: how many places there are.
        share: the chance of each, above 0; 1 or more hits all.
        draw: where random numbers come from.

    Returns:
        indices in rising order; at least one when there are any places: who asks for damage gets some.
    """
    if share >= 1:
        return list(range(n))
    scale = 1 / math.log1p(-max(share, FAINTEST))
    random, log = draw.random, math.log
    found: list[int] = []
    at = int(log(1 - random()) * scale)
    while at < n:
        found.append(at)
        at += 1 + int(log(1 - random()) * scale)
    return found or ([int(random() * n)] if n else [])


def scattered(text: str, pattern: re.Pattern[str], every: float, draw: Random) -> list[re.Match[str]]:
    r"""Find a pattern at random places of a text, without looking at what lies between.

    Args:
        text: the text.
        pattern: must match no empty stretch, and not inside of what it matches (``(?<!\S)\S+``): it is searched from
            anywhere.
        every: signs per hit, on average; much more than from one match to the next.
        draw: where random numbers come from.

    Returns:
        matches in order; at least one when there are any.
    """
    random, log, search = draw.random, math.log, pattern.search
    found: list[re.Match[str]] = []
    due = -log(1 - random()) * every
    while due < len(text):
        match = search(text, max(int(due), found[-1].end() if found else 0))
        if match is None:
            break
        found.append(match)
        due -= log(1 - random()) * every
    if found:
        return found
    first = search(text, int(random() * len(text))) or search(text)
    return [first] if first else []


def every(share: float, places: int, text: str) -> float:
    """Signs per hit, when a share of so many places in a text is hit."""
    return len(text) / max(share * places, FAINTEST)
