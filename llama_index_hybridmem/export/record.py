"""What goes into an export and what comes out of it, one question each; pure, knows no retriever, file or layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.kinds import KINDS
from llama_index_hybridmem.noise.scene import Damage, Passage, Scene, passage_from_json, passage_to_json

SCHEMA = 1
"""Of drafts and records; a reader takes its own and older ones."""

Origin = Literal["user", "traces", "generated"]
Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with what the app's own retriever found for it: what an export starts from.

    Attributes:
        id: unique in an export.
        scene: question, passages as retrieved, those just beyond them, gold ids, answer, quotes.
        origin: where the question comes from.
        domain: of the question, for held-out domains; None when unknown.
        asked: Unix seconds, when it was asked or labelled; None when unknown.
        versions: source document id to a hash of its content as it was retrieved.
    """

    id: str
    scene: Scene
    origin: Origin = "user"
    domain: str | None = None
    asked: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        scene = self.scene
        return {
            "schema": SCHEMA,
            "id": self.id,
            "question": scene.question,
            "answer": scene.answer,
            "passages": [passage_to_json(each) for each in scene.passages],
            "near": [passage_to_json(each) for each in scene.near],
            "gold": sorted(scene.gold),
            "quotes": list(scene.quotes),
            "origin": self.origin,
            "domain": self.domain,
            "asked": self.asked,
            "versions": dict(self.versions),
        }


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of a passage that support an answer.

    Attributes:
        passage: its id.
        text: verbatim.
    """

    passage: str
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a training set, before it is put into any layout.

    Attributes:
        id: of its draft.
        question: as asked.
        answer: what the model shall say: the draft's answer, or the wording of abstention.
        expected: the draft's answer, whatever became of its support; None when unknown.
        answerable: whether the noisy passages support the expected answer.
        clean: the passages as retrieved.
        noisy: the passages as the prompt gets them, each with its damage.
        removed: passages that were taken away, with their damage.
        gold: ids of the passages that answered before the damage.
        quotes: what supports the answer in the noisy passages; empty when it is not answerable.
        given: what the draft quoted for the answer; with gold and expected answer it tells what the support must hold.
        seed: what all its random numbers were drawn from.
        profile: hash of the noise profile.
        versions: see `Draft`.
        split: which part of the set it belongs to.
        origin: see `Draft`.
        domain: see `Draft`.
        asked: see `Draft`.
    """

    id: str
    question: str
    answer: str
    expected: str | None
    answerable: bool
    clean: tuple[Passage, ...]
    noisy: tuple[Passage, ...]
    removed: tuple[Passage, ...]
    gold: frozenset[str]
    quotes: tuple[Quote, ...]
    seed: str
    profile: str
    versions: Mapping[str, str] = field(default_factory=dict)
    split: Split = "train"
    origin: Origin = "user"
    domain: str | None = None
    asked: float | None = None
    given: tuple[str, ...] = ()

    def kinds(self) -> frozenset[str]:
        """The kinds of noise in it."""
        return frozenset(each.kind for passage in (*self.noisy, *self.removed) for each in passage.damage)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types: the canonical record. An undamaged passage stands in ``noisy`` by its id alone."""
        same = {each.id: each for each in self.clean}
        return {
            "schema": SCHEMA,
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "expected": self.expected,
            "answerable": self.answerable,
            "clean": [passage_to_json(each) for each in self.clean],
            "noisy": [{"id": each.id} if same.get(each.id) == each else passage_to_json(each) for each in self.noisy],
            "removed": [passage_to_json(each) for each in self.removed],
            "gold": sorted(self.gold),
            "quotes": [{"passage": each.passage, "text": each.text} for each in self.quotes],
            "given": list(self.given),
            "seed": self.seed,
            "profile": self.profile,
            "versions": dict(self.versions),
            "split": self.split,
            "origin": self.origin,
            "domain": self.domain,
            "asked": self.asked,
        }


def encodable(text: str) -> str:
    """The text, with U+FFFD for each lone surrogate, half a character that no UTF-8 can hold; two halves become one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def draft_from_json(row: Mapping[str, Any], place: str = "a draft") -> Draft:
    """Read what `Draft.to_json` gave.

    Raises:
        ConfigurationError: it is no draft, or of a newer schema; names the place and the field.
    """
    with _Reading(place, "draft", row):
        scene = Scene(
            row["question"],
            tuple(passage_from_json(each) for each in row["passages"]),
            tuple(passage_from_json(each) for each in row["near"]),
            frozenset(row["gold"]),
            row["answer"],
            tuple(row["quotes"]),
        )
        _check_scene(scene)
        _check_origin(row)
        return Draft(row["id"], scene, row["origin"], row["domain"], row["asked"], row["versions"])


def record_from_json(row: Mapping[str, Any], place: str = "a record") -> Record:
    """Read what `Record.to_json` gave.

    Raises:
        ConfigurationError: it is no record, or of a newer schema; names the place and the field.
    """
    with _Reading(place, "record", row):
        clean = tuple(passage_from_json(each) for each in row["clean"])
        _check_passages(clean)
        same = {each.id: each for each in clean}
        record = Record(
            row["id"],
            row["question"],
            row["answer"],
            row["expected"],
            row["answerable"],
            clean,
            tuple(passage_from_json(each) if "text" in each else same[each["id"]] for each in row["noisy"]),
            tuple(passage_from_json(each) for each in row["removed"]),
            frozenset(row["gold"]),
            tuple(Quote(each["passage"], each["text"]) for each in row["quotes"]),
            row["seed"],
            row["profile"],
            row["versions"],
            row["split"],
            row["origin"],
            row["domain"],
            row["asked"],
            tuple(row["given"]),
        )
        _check_record(record)
        _check_origin(row)
        return record


def _check_record(record: Record) -> None:
    _check_passages((*record.noisy, *record.removed))
    texts = (record.question, record.answer, record.seed, record.profile, record.split, record.expected or "")
    _check(all(isinstance(each, str) for each in texts), "question, answer, expected, seed, profile or split")
    _check(isinstance(record.answerable, bool), "answerable")
    _check(all(isinstance(each, str) for each in record.gold), "gold")
    _check(all(isinstance(each.passage, str) and isinstance(each.text, str) for each in record.quotes), "quotes")


def _check_scene(scene: Scene) -> None:
    _check_passages((*scene.passages, *scene.near))
    texts = (scene.question, scene.answer or "", *scene.gold, *scene.quotes)
    _check(all(isinstance(each, str) for each in texts), "question, answer, gold or quotes")


def _check_origin(row: Mapping[str, Any]) -> None:
    _check(isinstance(row["id"], str), "id")
    _check(isinstance(row["origin"], str), "origin")
    _check(row["domain"] is None or isinstance(row["domain"], str), "domain")
    _check(row["asked"] is None or _is_number(row["asked"]), "asked")
    _check(isinstance(row["versions"], Mapping), "versions")


def _check_passages(passages: Sequence[Passage]) -> None:
    for each in passages:
        _check(isinstance(each.id, str) and isinstance(each.text, str), "a passage's id or text")
        _check(isinstance(each.metadata, Mapping), "a passage's metadata")
        _check(each.source is None or isinstance(each.source, str), "a passage's source")
        _check(each.score is None or _is_number(each.score), "a passage's score")
        for damage in each.damage:
            _check_damage(damage)


def _check_damage(damage: Damage) -> None:
    _check(isinstance(damage.kind, str) and damage.kind in KINDS, "a damage's kind")
    texts = (damage.operator, damage.seed, damage.original, *damage.fields)
    _check(all(isinstance(each, str) for each in texts), "a damage's operator, seed, original or fields")
    _check(_is_number(damage.severity), "a damage's severity")
    _check(all(isinstance(each, int) for span in damage.spans for each in span), "a damage's spans")


def _check(good: bool, what: str) -> None:
    if not good:
        raise TypeError(what)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf  # a NaN is not


class _Reading:
    """Tells what is missing or of the wrong form in a row as our error."""

    def __init__(self, place: str, what: str, row: Any) -> None:
        self._place = f"{place}: no {what}"
        if not isinstance(row, Mapping) or row.get("schema") not in range(1, SCHEMA + 1):
            found = row.get("schema", "no schema") if isinstance(row, Mapping) else f"{row!r:.40}"
            raise ConfigurationError(f"{self._place} of schema 1 to {SCHEMA}: {found}")

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise ConfigurationError(f"{self._place}: lacks the field {error}") from error
        if isinstance(error, TypeError | ValueError | AttributeError):
            raise ConfigurationError(f"{self._place}: a field is of the wrong form: {error}") from error
