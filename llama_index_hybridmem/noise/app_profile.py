"""The noise profile as users have it: measured, assumed, loaded or saved in one word; measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from llama_index_hybridmem.noise import profiles
from llama_index_hybridmem.noise.defaults import default_profile
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.measuring import Errors
from llama_index_hybridmem.noise.profile import Profile


class NoiseProfile(Profile):
    """How retrieved text is broken in one app, and where that is known from; see `Profile` for its fields.

    `hybridmem noise profile STORE|TRACES -o profile.json` measures one; `weighted` and `without` change what is made.
    """

    __slots__ = ()

    @classmethod
    def default(cls) -> NoiseProfile:
        """Give a profile for an app of which nothing is known; each rate says whether it was measured or is assumed."""
        return cls._of(default_profile())

    @classmethod
    def from_traces(
        cls,
        source: str | Path | Iterable[Any],
        *,
        errors: Mapping[Kind, Errors] | None = None,
        progress: profiles.Progress | None = None,
    ) -> NoiseProfile:
        """Measure what queries got; see `profiles.from_traces`."""
        return cls._of(profiles.from_traces(source, errors=errors, progress=progress))

    @classmethod
    def from_index(
        cls,
        source: Any,
        *,
        sample: int | None = profiles.SAMPLE,
        errors: Mapping[Kind, Errors] | None = None,
        progress: profiles.Progress | None = None,
    ) -> NoiseProfile:
        """Measure the chunks of an index; see `profiles.from_index`."""
        return cls._of(profiles.from_index(source, sample=sample, errors=errors, progress=progress))

    @classmethod
    def load(cls, path: str | Path) -> NoiseProfile:
        """Read what `save` wrote.

        Raises:
            ConfigurationError: no such file, or it is no profile.
            StoreError: it cannot be read.
        """
        return cls._of(profiles.load(path))

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        profiles.save(self, path)

    @classmethod
    def _of(cls, profile: Profile) -> NoiseProfile:
        return cls(**{each.name: getattr(profile, each.name) for each in fields(Profile)})
