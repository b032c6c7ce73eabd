"""What adapters, their aliases and references may be called; knows no registry, folder or model.

A reference is ``brand`` (the alias ``latest``), ``brand@prod`` (another alias) or ``brand@1a2b3c4d`` (a version by the
first digits of its hash). A name becomes a folder's name on every system and a model's name on every server, so it is
one plain lower-case word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llama_index_hybridmem.errors import AdapterNameError

LATEST = "latest"
SHOWN_DIGITS = 8
"""Digits of a version's hash in its id, and the fewest that a reference may give."""
HASH_DIGITS = 64

_LONGEST = 64
_WORD = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_HASH = re.compile(rf"[0-9a-f]{{{SHOWN_DIGITS},{HASH_DIGITS}}}")
_RULE = (
    f"has 1 to {_LONGEST} lower-case letters, digits, dots, dashes and underscores, begins and ends with a letter or "
    "digit, and has no two dots in a row"
)
# Words that mean "no adapter" or "whichever" somewhere: in our options, in PEFT (also in capitals), on model servers.
BASE = "base"
"""What asks for no adapter, where a view or a tenant has one of its own."""

_RESERVED = {"__base__", BASE, "default", "none", "null"}
# Windows opens a device under these names, whatever ending follows.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


@dataclass(frozen=True)
class Reference:
    """Which adapter, and which of its versions.

    Attributes:
        name: the adapter's.
        version: an alias, or 8 to 64 digits of a version's hash.

    Raises:
        AdapterNameError: no adapter, alias or version can be called so.
    """

    name: str
    version: str = LATEST

    def __post_init__(self) -> None:
        """Refuse what could not be parsed again."""
        check_name(self.name)
        _check_text("a version", self.version)
        if not self.by_hash:
            check_alias(self.version)

    @property
    def by_hash(self) -> bool:
        """Whether the version is given by its hash, not by an alias."""
        return looks_like_a_hash(self.version)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def parse(reference: str) -> Reference:
    """Read ``brand``, ``brand@alias`` or ``brand@1a2b3c4d``.

    Raises:
        AdapterNameError: it is none of these; says which part is wrong, and the rule.
    """
    _check_text("a reference", reference)
    name, at, version = reference.partition("@")
    return Reference(name, version) if at else Reference(name)


def check_name(name: str) -> str:
    """Give back a name that an adapter can have.

    Raises:
        AdapterNameError: says the rule, and the nearest name that keeps to it where only capitals are wrong.
    """
    _check_word("an adapter's name", name)
    if name == LATEST:
        raise AdapterNameError(f"an adapter's name cannot be {name!r}: every adapter's newest version is called that")
    return name


def check_alias(alias: str) -> str:
    """Give back an alias that a version can have; ``latest`` is one.

    Raises:
        AdapterNameError: against the rule, or it could be read as a version's hash.
    """
    _check_word("an alias", alias)
    if looks_like_a_hash(alias):
        raise AdapterNameError(f"{alias!r} cannot be an alias: it reads as a version's hash")
    return alias


def looks_like_a_hash(version: str) -> bool:
    """Whether what follows the @ stands for the digits of a hash."""
    return _HASH.fullmatch(version) is not None


def _check_text(kind: str, value: object) -> None:
    if not isinstance(value, str):
        raise AdapterNameError(f"{kind} is a text, not {type(value).__name__}")


def _check_word(kind: str, word: str) -> None:
    """Refuse what breaks the rule, or is reserved."""
    _check_text(kind, word)
    if len(word) > _LONGEST or ".." in word or not _WORD.fullmatch(word):
        raise AdapterNameError(f"{kind} {_RULE}, unlike {word[: 2 * _LONGEST]!r}{_nearest(word)}")
    if word in _RESERVED or word.partition(".")[0] in _DEVICES:
        raise AdapterNameError(f"{kind} cannot be {word!r}: the word is reserved")


def _nearest(word: str) -> str:
    """A hint where capitals are all that is wrong."""
    lowered = word.lower()
    return f"; {lowered!r} would do" if lowered != word and len(word) <= _LONGEST and _WORD.fullmatch(lowered) else ""
