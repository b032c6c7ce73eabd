"""How customers write: shouting, without capitals, with slips, with German words; pure, knows no ticket."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_WORD = re.compile(r"\b[a-z]{5,}\b")
_PROTECTED = re.compile(r"\S*@\S+|\S*\d\S*")  # addresses, numbers: what a slip would make untrue
_GERMAN = {
    "and": "und",
    "but": "aber",
    "please": "bitte",
    "Please": "Bitte",
    "not": "nicht",
    "invoice": "Rechnung",
    "bill": "Rechnung",
    "order": "Bestellung",
    "parcel": "Paket",
    "password": "Passwort",
    "account": "Konto",
    "lawyer": "Anwalt",
    "money": "Geld",
    "already": "schon",
    "because": "weil",
}
_SLIP_SHARE = 0.14


def shout(text: str, rng: Random) -> str:
    """All capitals."""
    return text.upper()


def mumble(text: str, rng: Random) -> str:
    """No capitals, hardly a full stop."""
    return re.sub(r"[.,;:](?= |$)", "", text).lower()


def slip(text: str, rng: Random) -> str:
    """Swap, drop or double a letter in about every seventh longer word, in one at least."""
    places = [found.start() for found in _WORD.finditer(_PROTECTED.sub(lambda found: "0" * len(found[0]), text))]
    if not places:
        return text
    chosen = {place for place in places if rng.random() < _SLIP_SHARE} or {rng.choice(places)}
    return _WORD.sub(lambda found: _slipped(found[0], rng) if found.start() in chosen else found[0], text)


def mix(text: str, rng: Random) -> str:
    """Put German in for some short words, as people do who think in it."""
    return re.sub(r"\b[A-Za-z]+\b", lambda found: _GERMAN.get(found[0], found[0]), text)


def plain(text: str, rng: Random) -> str:
    """As it is."""
    return text


def _slipped(word: str, rng: Random) -> str:
    at = rng.randrange(1, len(word) - 2)
    return rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[: at + 1] + word[at:],
        )
    )


STYLES: dict[str, Callable[[str, Random], str]] = {
    "plain": plain,
    "terse": plain,
    "polite": plain,
    "rambling": plain,
    "shouting": shout,
    "mumbling": mumble,
    "slips": slip,
    "german": mix,
}
