"""Names as 8 bytes each, to tell which occur twice among more of them than fit into memory; pure, knows no file."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np


class Names:
    """Takes names in any number; tells which of them may have come twice.

    Two names that differ share a hash once in some ten million sets of a million names: whoever is told that a name may
    have come twice looks again, at the names themselves.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, name: str) -> None:
        """Take a name."""
        self._hashes.append(_hash(name))

    def twice(self) -> Twice:
        """Give the names that may have come twice."""
        hashes = np.sort(np.frombuffer(self._hashes, np.uint64))
        return Twice(frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist()))


class Twice:
    """Names that may have come twice.

    Args:
        hashes: of them.
    """

    def __init__(self, hashes: frozenset[int]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __contains__(self, name: str) -> bool:
        return _hash(name) in self._hashes


def _hash(name: str) -> int:
    hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "little")
