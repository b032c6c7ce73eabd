"""Which version each of an adapter's aliases stands for, now and before; knows no files and no registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError
from llama_index_hybridmem.llms.adapters.names import HASH_DIGITS, check_alias, looks_like_a_hash

FORMAT = 1
REMEMBERED = 100
"""Moves of one alias that are kept: what a rollback can go back through."""


@dataclass(frozen=True)
class Aliases:
    """One adapter's aliases; a change gives a new one.

    Attributes:
        moves: alias to the hashes of the versions it stood for, the present one last.
    """

    moves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def now(self) -> dict[str, str]:
        """Alias to the hash of the version that it stands for."""
        return {alias: moves[-1] for alias, moves in self.moves.items()}

    def moved(self, aliases: Collection[str], sha256: str) -> Aliases:
        """Let aliases stand for a version; those that do already stay as they are.

        Raises:
            AdapterNameError: one of them cannot be an alias.
        """
        moves = dict(self.moves)
        for alias in aliases:
            before = moves.get(check_alias(alias), ())
            if before[-1:] != (sha256,):
                moves[alias] = (*before, sha256)[-REMEMBERED:]
        return Aliases(moves)

    def rolled_back(self, alias: str) -> Aliases:
        """Let an alias stand for what it stood for before; what it stands for now is forgotten.

        Raises:
            ConfigurationError: there is no such alias, or it never stood for another version.
        """
        moves = self.moves.get(alias, ())
        if not moves:
            raise ConfigurationError(f"no alias {alias!r}; there are: {', '.join(sorted(self.moves)) or 'none'}")
        if len(moves) == 1:
            raise ConfigurationError(f"the alias {alias!r} never stood for another version that is still there")
        return Aliases({**self.moves, alias: moves[:-1]})

    def without(self, sha256: str) -> Aliases:
        """Forget a version: an alias that stands for it is gone, and no rollback leads to it."""
        kept = {alias: _once_each(moves, sha256) for alias, moves in self.moves.items() if moves[-1] != sha256}
        return Aliases(kept)

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` reads."""
        return {"format": FORMAT, "aliases": {alias: list(moves) for alias, moves in sorted(self.moves.items())}}

    @classmethod
    def from_json(cls, value: Any, place: str) -> Aliases:
        """Read what `to_json` gave.

        Raises:
            StoreDamagedError: it is something else; names the place.
        """
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}, this version reads {FORMAT}")
            moves = {check_alias(alias): tuple(moves) for alias, moves in value["aliases"].items()}
            if not all(moves and all(map(_is_whole_hash, moves)) for moves in moves.values()):
                raise ValueError("an alias without a version's hash")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreDamagedError(
                f"{place} cannot be read: {error}; the versions beside it are whole: restore it from a copy, or delete "
                "it and set the aliases anew"
            ) from error
        return cls(moves)


def _once_each(moves: tuple[str, ...], sha256: str) -> tuple[str, ...]:
    """Moves without a version, and without the steps on the spot that its going leaves."""
    kept = [move for move in moves if move != sha256]
    return tuple(move for before, move in zip([None, *kept], kept, strict=False) if move != before)


def _is_whole_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == HASH_DIGITS and looks_like_a_hash(value)
