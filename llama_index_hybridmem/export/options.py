"""How a training set is to be made: everything that decides its bytes; pure, knows no file and makes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.record import Split
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.profile import Profile

SPLITS: tuple[Split, ...] = get_args(Split)
FORMATS = ("prompt-completion", "messages", "completion", "alpaca", "sharegpt", "openai")
"""Names of `formats.FORMATS`, the default first: rows that TRL trains on, with the loss on the answer only."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export. The same options, profile and drafts give the same bytes.

    Attributes:
        seed: of all random numbers; each record draws from its own, made of this one and its draft's id.
        top_k: passages that the prompt gets; what was retrieved beyond them are hard distractors.
        distractors: hard distractors added to each record, besides those of the profile.
        p_gold: share of the questions answered by what was retrieved that stay so, 0 to 1; None: as the profile has it.
        abstain_share: share of all records that shall be answered by abstaining, 0 to 1, in place of ``p_gold``; what
            was retrieved without an answer counts, and what is beyond the share is left out. None: as it comes.
        wording: system prompt, layout, citations, target and words of abstention.
        formats: which files are written, of `FORMATS`.
        splits: share of the source documents in train, dev and test; sums to 1.
        held_out_kinds: kinds of noise that only test has.
        held_out_domains: domains whose questions all go to test, and with them all questions on the same documents.
        strength: the profile's rates are multiplied by this; 0 makes a clean set.
        fitted: whether the noise that passages have as they were retrieved counts towards the profile's rates, and what
            cannot be made in some passages is made oftener in others (see `noise.fitting`); else it comes on top.
        shard_rows: drafts in a shard: what is held in memory at a time, and done again after a kill (default 1,000).
        profile: hash of the noise profile; the exporter sets it.

    Raises:
        ConfigurationError: a value out of range, or an unknown format or kind.
    """

    seed: int = 0
    top_k: int = 5
    distractors: int = 0
    p_gold: float | None = None
    abstain_share: float | None = None
    wording: Wording = field(default_factory=Wording)
    formats: tuple[str, ...] = FORMATS[:1]
    splits: Mapping[Split, float] = field(default_factory=lambda: {"train": 0.8, "dev": 0.1, "test": 0.1})
    held_out_kinds: tuple[Kind, ...] = ()
    held_out_domains: tuple[str, ...] = ()
    strength: float = 1.0
    fitted: bool = True
    shard_rows: int = 1000
    profile: str = ""

    def __post_init__(self) -> None:
        """Refuse what no export can be made with."""
        _whole("seed", self.seed, None)
        _whole("top_k", self.top_k, 1)
        _whole("distractors", self.distractors, 0)
        _whole("shard_rows", self.shard_rows, 1)
        for name in ("p_gold", "abstain_share"):
            if (share := getattr(self, name)) is not None:
                _number(name, share, 1)
        if self.p_gold is not None and self.abstain_share is not None:
            raise ConfigurationError(
                "p_gold and abstain_share: both say how often gold passages stay; give one of them"
            )
        if "gold_removed" in self.held_out_kinds and (self.p_gold, self.abstain_share) != (None, None):
            raise ConfigurationError("held_out_kinds: with p_gold or abstain_share gold_removed is in every part")
        _number("strength", self.strength, None)
        _names("formats", self.formats, FORMATS, at_least=1)
        _names("held_out_kinds", self.held_out_kinds, KINDS)
        _names("held_out_domains", self.held_out_domains, None)
        _splits(self.splits)
        if not isinstance(self.wording, Wording) or not isinstance(self.fitted, bool):
            raise ConfigurationError("wording is a Wording, and fitted True or False")

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name these options."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def of(self, profile: Profile) -> ExportOptions:
        """The same options, for a profile."""
        return replace(self, profile=profile.hash)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples to lists, in the wording, too
        return plain

    @classmethod
    def from_json(cls, row: Any, place: str = "export options") -> ExportOptions:
        """Read what `to_json` gave.

        Raises:
            ConfigurationError: these are no options; names the place and the field.
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(row, Mapping) or not row.keys() <= known:
            unknown = sorted(map(str, row.keys() - known)) if isinstance(row, Mapping) else [f"{row!r:.40}"]
            raise ConfigurationError(f"{place}: no export options; not understood: {', '.join(unknown)}")
        given = dict(row)
        try:
            if "wording" in given:
                given["wording"] = Wording.from_json(given["wording"], f"{place}: wording")
            return cls(**_tuples(given))
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{place}: a field is of the wrong form: {error}") from error


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _whole(name: str, value: object, least: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        limit = "" if least is None else f" of {least} or more"
        raise ConfigurationError(f"{name}: a whole number{limit} is expected, not {value!r:.40}")


def _number(name: str, value: object, most: float | None) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not good or (most is not None and float(value) > most):  # type: ignore[arg-type]
        wanted = "a number of 0 or more" if most is None else "a share, 0 to 1,"
        raise ConfigurationError(f"{name}: {wanted} is expected, not {value!r:.40}")


def _names(name: str, values: object, known: tuple[str, ...] | None, at_least: int = 0) -> None:
    if not isinstance(values, tuple) or not all(isinstance(each, str) for each in values) or len(values) < at_least:
        raise ConfigurationError(f"{name}: a tuple of names is expected, not {values!r:.40}")
    for each in values:
        if known is not None and each not in known:
            raise ConfigurationError(f"{name}: no {each!r}; there are {', '.join(known)}")
    if len(set(values)) < len(values):
        raise ConfigurationError(f"{name}: a name stands there twice")


def _splits(shares: object) -> None:
    if not isinstance(shares, Mapping) or set(shares) != set(SPLITS):
        raise ConfigurationError(f"splits: shares of {', '.join(SPLITS)} are expected, not {shares!r:.60}")
    for name, share in shares.items():
        _number(f"splits, {name}", share, 1)
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ConfigurationError(f"splits: the shares sum to 1, not to {sum(shares.values()):g}")
