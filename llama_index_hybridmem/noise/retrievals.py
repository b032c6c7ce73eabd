"""What was wrong with the passages of one query, and which noise goes with bad answers; pure, knows no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.findings import Detector, Finding, detectors
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.scene import Passage, Scene, passage_from_json, passage_to_json
from llama_index_hybridmem.statistics import Z95

SCHEMA = 1
"""Of the JSON; a reader takes its own and older ones."""

OPINIONS = {"good": True, "bad": False}
"""What a user may think of an answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """One passage of a retrieval.

    Attributes:
        findings: what was wrong with it, without where.
        source: its document: the id where texts were recorded, else a hash of the id; None when unknown.
        score: the retriever's; None without one.
        passage: the passage itself; None where texts were not recorded.
    """

    findings: tuple[Finding, ...] = ()
    source: str | None = None
    score: float | None = None
    passage: Passage | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        row = {"source": self.source, "score": self.score, "findings": [_finding_json(each) for each in self.findings]}
        return row if self.passage is None else {**row, "passage": passage_to_json(self.passage)}


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What one query's retrieval was like.

    Attributes:
        id: of the trace, as in the lines of `JsonlTraces`.
        asked: Unix seconds.
        passages: best first.
        whole: what was wrong with the list.
        detectors: who was asked, with versions.
        status: how the query ended.
        route: which route it took; None without a router.
        abstained: whether there was no answer for want of evidence; None where the engine does not say.
        tenant: who asked, as tagged.
        good: what the user thought of the answer; None when unknown.
        question: as asked; None where texts were not recorded.
        answer: see question.
    """

    id: str
    asked: float
    passages: tuple[Found, ...]
    whole: tuple[Finding, ...] = ()
    detectors: Mapping[str, int] = field(default_factory=dict)
    status: str = "ok"
    route: str | None = None
    abstained: bool | None = None
    tenant: str | None = None
    good: bool | None = None
    question: str | None = None
    answer: str | None = None

    @property
    def scene(self) -> Scene | None:
        """Question and passages; None where texts were not recorded."""
        passages = [each.passage for each in self.passages if each.passage is not None]
        if self.question is None or len(passages) < len(self.passages):
            return None
        return Scene(self.question, tuple(passages))

    def kinds(self) -> frozenset[Kind]:
        """Kinds that were found, anywhere in it."""
        return frozenset(each.kind for found in (self.whole, *(p.findings for p in self.passages)) for each in found)

    def looked_for(self) -> frozenset[Kind]:
        """Kinds of which all of today's detectors were asked, in today's versions."""
        today: dict[Kind, list[Detector]] = {}
        for each in detectors():
            today.setdefault(each.kind, []).append(each)
        asked = self.detectors
        return frozenset(
            kind for kind, those in today.items() if all(asked.get(each.name) == each.version for each in those)
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types; docs/noise-profiles.md describes them."""
        row = {
            "retrieval": SCHEMA,
            "id": self.id,
            "asked": self.asked,
            "k": len(self.passages),
            "status": self.status,
            "route": self.route,
            "abstained": self.abstained,
            "tenant": self.tenant,
            "feedback": None if self.good is None else "good" if self.good else "bad",
            "detectors": dict(self.detectors),
            "findings": [_finding_json(each) for each in self.whole],
            "passages": [{"rank": rank, **each.to_json()} for rank, each in enumerate(self.passages, start=1)],
        }
        return row if self.question is None else {**row, "question": self.question, "answer": self.answer}


@dataclass(frozen=True, slots=True)
class Lift:
    """How much more often a kind of noise stands before a bad answer than before a good one.

    Attributes:
        bad: share of the badly answered queries that have it.
        good: share of the well answered ones.
        ratio: bad / good, half a query added to both where one of them has none; above 1: it goes with bad answers.
        low: lower end of the ratio's 95 % interval.
        high: its upper end.
    """

    bad: float
    good: float
    ratio: float
    low: float
    high: float


def lift(retrievals: Iterable[Retrieval], feedback: Mapping[str, bool] | None = None) -> dict[Kind, Lift]:
    """Compare the noise before bad answers with that before good ones; it goes with them, and need not be the cause.

    Args:
        retrievals: any number; those without an opinion are left out.
        feedback: id of a retrieval to whether its answer was good; wins over what was tagged.

    Returns:
        of every kind that was looked for in queries of both sorts; the interval is that of Katz et al. 1978 ("Obtaining
        confidence intervals for the risk ratio in cohort studies", Biometrics 34(3), 469-474).
    """
    opinions = feedback or {}
    counts: dict[Kind, dict[bool, list[int]]] = {kind: {True: [0, 0], False: [0, 0]} for kind in KINDS}
    for each in retrievals:
        good = opinions.get(each.id, each.good)
        if good is None:
            continue
        found = each.kinds()
        for kind in each.looked_for():
            counts[kind][good][0] += kind in found
            counts[kind][good][1] += 1
    return {kind: _lift(*both[False], *both[True]) for kind, both in counts.items() if both[True][1] and both[False][1]}


def retrieval_from_json(row: Any, place: str = "a retrieval") -> Retrieval:
    """Read what `Retrieval.to_json` gave.

    Raises:
        ConfigurationError: it is no retrieval, or of a newer schema; names the place and the field.
    """
    if isinstance(row, Mapping) and "retrieval" not in row and "stages" in row:
        raise ConfigurationError(
            f"{place}: a trace of JsonlTraces, which holds costs and times only; give the handler "
            f"RetrievalTraces(FILE) as an exporter, too, and name that file"
        )
    if not isinstance(row, Mapping) or row.get("retrieval") not in range(1, SCHEMA + 1):
        raise ConfigurationError(f"{place}: no retrieval of schema 1 to {SCHEMA}")
    try:
        return _retrieval(row)
    except KeyError as error:
        raise ConfigurationError(f"{place}: no retrieval: lacks the field {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{place}: no retrieval: a field is of the wrong form: {error}") from error


def _retrieval(row: Mapping[str, Any]) -> Retrieval:
    return Retrieval(
        id=_as(str, row["id"]),
        asked=_as(float, row["asked"]),
        passages=tuple(map(_found, row["passages"])),
        whole=tuple(map(_finding, row["findings"])),
        detectors={name: _as(int, version) for name, version in row["detectors"].items()},
        status=_as(str, row["status"]),
        route=_maybe(str, row["route"]),
        abstained=_maybe(bool, row["abstained"]),
        tenant=_maybe(str, row["tenant"]),
        good=None if row["feedback"] is None else OPINIONS[row["feedback"]],
        question=_maybe(str, row.get("question")),
        answer=_maybe(str, row.get("answer")),
    )


def _found(row: Mapping[str, Any]) -> Found:
    findings = tuple(map(_finding, row["findings"]))
    passage = _passage(row["passage"]) if "passage" in row else None
    return Found(findings, _maybe(str, row["source"]), _maybe(float, row["score"]), passage)


def _passage(row: Mapping[str, Any]) -> Passage:
    found = passage_from_json(row)
    _as(str, found.id), _as(str, found.text), _as(Mapping, found.metadata)
    _maybe(str, found.source), _maybe(float, found.score)
    return found


def _finding(row: Mapping[str, Any]) -> Finding:
    if row["kind"] not in KINDS:
        raise ValueError(f"{row['kind']!r:.40} is no kind of noise")
    return Finding(row["kind"], _as(str, row["operator"]), _as(float, row["severity"]))


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {"kind": finding.kind, "operator": finding.operator, "severity": round(finding.severity, 4)}


def _as(kind: type, value: Any) -> Any:
    good = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not good or (kind is float and not abs(value) < math.inf):  # a NaN is not
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _maybe(kind: type, value: Any) -> Any:
    return None if value is None else _as(kind, value)


def _lift(bad: int, bads: int, good: int, goods: int) -> Lift:
    more = 0.0 if bad and good else 0.5
    one, other = (bad + more) / (bads + more), (good + more) / (goods + more)
    spread = 1 / (bad + more) - 1 / (bads + more) + 1 / (good + more) - 1 / (goods + more)
    factor = math.exp(Z95 * math.sqrt(max(spread, 0.0)))
    return Lift(bad / bads, good / goods, one / other, one / other / factor, one / other * factor)
