"""A question with the passages found for it, and what was done to each; pure, knows no retriever and no operator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.kinds import Kind

TITLE = "title"
SOURCE_FIELDS = ("source", "file_name", "file_path", "path", "url")
DATE_FIELDS = ("date", "updated", "last_modified_date", "modified", "version_date", "creation_date", "published")
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)
VERSION_FIELDS = ("version", "revision", "edition")


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that was done to a passage.

    Attributes:
        operator: who did it.
        kind: of noise.
        severity: 0 to 1, in the operator's own sense.
        seed: what its random numbers were drawn from.
        original: hash of the passage before anything was done to it (`digest`).
        spans: what it changed, in the passage's present text; (n, n) where something was lost.
        fields: metadata it changed, added or took away.
        note: particulars: what a value ``was`` and is ``now``, the ``id`` of the passage that was copied, …
    """

    operator: str
    kind: Kind
    severity: float
    seed: str
    original: str
    spans: tuple[Span, ...] = ()
    fields: tuple[str, ...] = ()
    note: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {
            "operator": self.operator,
            "kind": self.kind,
            "severity": self.severity,
            "seed": self.seed,
            "original": self.original,
            "spans": list(map(list, self.spans)),
            "fields": list(self.fields),
            "note": dict(self.note),
        }


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved node as operators and detectors see it.

    Attributes:
        id: of the node; unique in a scene.
        text: its text, without metadata.
        metadata: what the language model would see of it, as plain JSON values.
        source: id of the document it comes from; None when unknown.
        score: the retriever's; None without one.
        damage: what was done to it, in order; () for one as it was retrieved.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    score: float | None = None
    damage: tuple[Damage, ...] = ()

    @property
    def title(self) -> str:
        """Its title, "" without one."""
        return str(self.metadata.get(TITLE) or "")

    def has(self, *kinds: Kind) -> bool:
        """Whether it was damaged in one of these ways."""
        return any(each.kind in kinds for each in self.damage)


@dataclass(frozen=True, slots=True)
class Scene:
    """A question and what was found for it.

    Attributes:
        question: as asked.
        passages: best first, as the prompt gets them.
        near: what was found, too, but beyond the k that the prompt takes: hard distractors; best first.
        gold: ids of the passages that answer; empty when unknown.
        answer: the right answer; None when unknown.
        quotes: what of the gold passages supports the answer, verbatim.
        removed: passages that were taken away, each with the damage that says by whom.
    """

    question: str
    passages: tuple[Passage, ...]
    near: tuple[Passage, ...] = ()
    gold: frozenset[str] = frozenset()
    answer: str | None = None
    quotes: tuple[str, ...] = ()
    removed: tuple[Passage, ...] = ()

    def with_passages(self, passages: Sequence[Passage]) -> Scene:
        """The same scene with other passages."""
        return replace(self, passages=tuple(passages))

    def is_gold(self, passage: Passage) -> bool:
        """Whether a passage answers, or is a true copy of one that does: it must be named so in a damage's note."""
        return passage.id in self.gold or any(
            each.kind == "duplicate" and each.note.get("id") in self.gold for each in passage.damage
        )


@dataclass(frozen=True)
class World:
    """What operators may draw from beyond the scene itself.

    Attributes:
        passages: of the same corpus, for passages about something else, for titles, dates and values; a sample will do.
        translate: (text, language code) to a translation; None: operators use their own words for common words.
        write: a prompt to a text, a language model; None: no operator asks one.
    """

    passages: Sequence[Passage] = ()
    translate: Callable[[str, str], str] | None = None
    write: Callable[[str], str] | None = None


def digest(passage: Passage) -> str:
    """Give a short hash of a passage's text and metadata, 16 hexadecimal digits of SHA-256."""
    if passage.damage:
        return passage.damage[0].original
    content = passage.text + "\0" + _CANONICAL.encode(passage.metadata)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def in_place(passages: Sequence[Passage], known: Sequence[Passage]) -> list[Passage]:
    """Give passages that were added to a list scores that fit their places: their predecessor's, else the successor's.

    Args:
        passages: the list, some of them added.
        known: those that were there before; they keep their scores.
    """
    ids = {each.id for each in known}
    placed: list[Passage] = []
    for at, each in enumerate(passages):
        if each.id not in ids:
            later = (other.score for other in passages[at + 1 :] if other.id in ids)
            each = replace(each, score=placed[-1].score if placed else next(later, None))
        placed.append(each)
    return placed


def fresh_id(passage: Passage, operator: str, taken: Sequence[Passage]) -> str:
    """An id for a copy of a passage in a scene: ``n1~stale``, or ``n1~stale2`` when that one is taken."""
    ids = {each.id for each in taken}
    stem = f"{passage.id}~{operator}"
    return next(id_ for n in range(1, len(ids) + 2) if (id_ := stem if n == 1 else f"{stem}{n}") not in ids)


def passage_from_json(row: Mapping[str, Any]) -> Passage:
    """Read what `passage_to_json` gives."""
    return Passage(
        row["id"],
        row["text"],
        row.get("metadata") or {},
        row.get("source"),
        row.get("score"),
        tuple(damage_from_json(each) for each in row.get("damage") or ()),
    )


def passage_to_json(passage: Passage) -> dict[str, Any]:
    """Give plain JSON types."""
    return {
        "id": passage.id,
        "text": passage.text,
        "metadata": dict(passage.metadata),
        "source": passage.source,
        "score": passage.score,
        "damage": [each.to_json() for each in passage.damage],
    }


def damage_from_json(row: Mapping[str, Any]) -> Damage:
    """Read what `Damage.to_json` gives."""
    spans = tuple((start, end) for start, end in row["spans"])
    return Damage(
        row["operator"],
        row["kind"],
        row["severity"],
        row["seed"],
        row["original"],
        spans,
        tuple(row["fields"]),
        dict(row["note"]),
    )
