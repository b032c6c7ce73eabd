"""Answers judged right or wrong, paired by question over two runs; pure, judges nothing itself."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.errors import ConfigurationError

UNTAGGED = "traces without the tag question or run"
BESIDE = "model calls beside the query, left out: a judge's, as a rule"
UNJUDGED = "answers without a judgement, left out"
FAILED = "queries that ended in an error, counted as wrong"
UNASKED = "judgements of a question that no trace has, left out"
OTHER_RUNS = "answers of other runs, left out"
ALONE = "questions that only {} answered, left out"

_WORDS = {"true": 1.0, "false": 0.0}
_BARE = ("llm", "embed")  # kinds of traces: a model called on its own
_SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer, judged.

    Attributes:
        question: its id, the same in both runs.
        arm: the run it was asked in.
        correct: 0 (wrong) … 1 (right); a bool will do.
        cost: what its model calls cost; None when unpriced.
        latency_s: seconds to the end of the answer; None when not measured.
        question_class: "single-hop", "multi-hop", …; None without classes.
        route: the one taken; None without a router.
    """

    question: str
    arm: str
    correct: float
    cost: Decimal | None = None
    latency_s: float | None = None
    question_class: str | None = None
    route: str | None = None

    def __post_init__(self) -> None:
        place = f"question {self.question!r} in run {self.arm!r}"
        object.__setattr__(self, "correct", _share(self.correct, place))
        if self.cost is not None and not (self.cost.is_finite() and self.cost >= 0):
            raise ConfigurationError(f"{place}: a cost is finite and not below 0, not {self.cost}")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody said of one answer.

    Attributes:
        question: the question's id.
        run: the run it was asked in.
        correct: 0 … 1.
        question_class: see `Judged`.
    """

    question: str
    run: str
    correct: float
    question_class: str | None = None


@dataclass(frozen=True)
class Answers:
    """Judged answers, and what could not be used.

    Attributes:
        rows: one per question and run.
        counted: what was left out or taken for wrong, and how often.
        currency: of the costs.
    """

    rows: tuple[Judged, ...]
    counted: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"


@dataclass(frozen=True)
class Pairs:
    """The same questions, answered in two runs.

    Attributes:
        with_graph: the answers with the graph path.
        without_graph: those without, in the same order.
        counted: see `Answers`.
        currency: of the costs.
    """

    with_graph: tuple[Judged, ...]
    without_graph: tuple[Judged, ...]
    counted: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"

    def __len__(self) -> int:
        return len(self.with_graph)

    def of_class(self, name: str) -> Pairs:
        """Give the pairs of one class."""
        kept = [pair for pair in zip(self.with_graph, self.without_graph, strict=True) if class_of(*pair) == name]
        return Pairs(tuple(one for one, _ in kept), tuple(other for _, other in kept), currency=self.currency)

    def classes(self) -> list[str]:
        """Give the names of the classes, in the order of the alphabet."""
        named = {class_of(*pair) for pair in zip(self.with_graph, self.without_graph, strict=True)}
        return sorted(name for name in named if name is not None)


def judgement(row: Any, place: str) -> Judgement:
    """Read ``{"question": id, "run": name, "correct": 0 … 1, "class": name}``; the class may be missing.

    Args:
        row: the object of one line.
        place: names it in errors.

    Raises:
        ConfigurationError: it is of another form.
    """
    if not isinstance(row, Mapping):
        raise ConfigurationError(f"{place}: expected an object, found {row!r:.80}")
    for name in ("question", "run"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise ConfigurationError(f'{place}: "{name}" is a text, not {row.get(name)!r:.80}')
    named = row.get("class")
    if named is not None and (not isinstance(named, str) or not named):
        raise ConfigurationError(f'{place}: "class" is a text, not {named!r:.80}')
    if isinstance(row.get("correct"), str):
        raise ConfigurationError(f'{place}: "correct" is a number from 0 to 1, not {row["correct"]!r:.80}')
    return Judgement(row["question"], row["run"], _share(row.get("correct"), place), named)


def judged(traces: Iterable[QueryTrace], judgements: Iterable[Judgement] = ()) -> Answers:
    """Put traces and judgements together.

    A trace says which question it answered (``tags["question"]``) and in which run (``run``). Whether it was right
    says a judgement, or else ``tags["correct"]``; the class a judgement, or else ``tags["class"]``. A query that ended
    in an error and was not judged is wrong: an arm must not gain by failing. A model called on its own is taken for
    the answer only where no query has the same tags.

    Args:
        traces: of one query for each question and run.
        judgements: of answers in them.

    Raises:
        ConfigurationError: two traces or two judgements of one answer, a tag "correct" that is no number from 0 to 1
            or contradicts the judgement, several currencies.
    """
    said = _by_answer(judgements)
    counted: Counter[str] = Counter()
    found = _queries(traces, counted)
    rows = [row for key, trace in found.items() if (row := _judged(trace, key, said.get(key), counted)) is not None]
    counted[UNASKED] += len(said.keys() - found.keys())
    return Answers(tuple(rows), {name: count for name, count in counted.items() if count}, _currency(found.values()))


def pair(answers: Answers | Sequence[Judged], with_graph: str, without_graph: str) -> Pairs:
    """Pair the answers of two runs by question.

    Args:
        answers: of both runs; those of others are counted.
        with_graph: the run with the graph path.
        without_graph: the run without.

    Raises:
        ConfigurationError: a run without answers (names those there are), no question that both answered, an answer
            twice, or a question of two classes.
    """
    if not isinstance(answers, Answers):
        answers = Answers(tuple(answers))
    arms: dict[str, dict[str, Judged]] = defaultdict(dict)
    for row in answers.rows:
        if arms[row.arm].setdefault(row.question, row) is not row:
            raise ConfigurationError(f"question {row.question!r} is judged twice in run {row.arm!r}")
    _check_runs(arms, with_graph, without_graph)
    one, other = arms[with_graph], arms[without_graph]
    both = [question for question in one if question in other]
    if not both:
        raise ConfigurationError(
            f"no question was answered and judged in both runs: {with_graph!r} has {_some(one)}, "
            f"{without_graph!r} has {_some(other)}"
        )
    for question in both:
        class_of(one[question], other[question])
    counted = {
        **answers.counted,
        OTHER_RUNS: sum(len(rows) for arm, rows in arms.items() if arm not in (with_graph, without_graph)),
        ALONE.format(with_graph): len(one) - len(both),
        ALONE.format(without_graph): len(other) - len(both),
    }
    return Pairs(
        tuple(one[question] for question in both),
        tuple(other[question] for question in both),
        {name: count for name, count in counted.items() if count},
        answers.currency,
    )


def class_of(one: Judged, other: Judged) -> str | None:
    """Give the class of a question, which one of its answers may leave out.

    Raises:
        ConfigurationError: they name two.
    """
    named = {row.question_class for row in (one, other)} - {None}
    if len(named) > 1:
        raise ConfigurationError(f"question {one.question!r} is of two classes: {', '.join(sorted(map(str, named)))}")
    return next(iter(named), None)


def _queries(traces: Iterable[QueryTrace], counted: Counter[str]) -> dict[tuple[str, str], QueryTrace]:
    """The trace of each question in each run."""
    found: dict[tuple[str, str], QueryTrace] = {}
    for trace in sorted(traces, key=lambda trace: trace.kind in _BARE):
        question, run = trace.tags.get("question"), trace.run
        if question is None or run is None:
            counted[UNTAGGED] += 1
        elif (question, run) not in found:
            found[question, run] = trace
        elif trace.kind in _BARE and found[question, run].kind not in _BARE:
            counted[BESIDE] += 1
        else:
            raise ConfigurationError(
                f"question {question!r} was asked twice in run {run!r} (traces {found[question, run].id}, {trace.id}): "
                "keep one, and ask what judges the answers without the tag question"
            )
    return found


def _judged(trace: QueryTrace, key: tuple[str, str], said: Judgement | None, counted: Counter[str]) -> Judged | None:
    correct = _correct(trace, said)
    if correct is None and trace.status == "error":
        counted[FAILED] += 1
        correct = 0.0
    if correct is None:
        counted[UNJUDGED] += 1
        return None
    named = said.question_class if said is not None and said.question_class is not None else trace.tags.get("class")
    return Judged(*key, correct, trace.cost, trace.wall_s, named, trace.route)


def _correct(trace: QueryTrace, said: Judgement | None) -> float | None:
    tag = trace.tags.get("correct")
    if tag is None:
        return None if said is None else said.correct
    place = f"trace {trace.id}, tag correct"
    tagged = _share(_WORDS.get(tag.lower(), tag), place)
    if said is not None and said.correct != tagged:
        raise ConfigurationError(f"{place}: {tag}, but the judgement of {said.question!r} says {said.correct:g}")
    return tagged


def _share(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f'{place}: "correct" is a number from 0 to 1, not {value!r:.80}') from error
    if not math.isfinite(number) or not 0 <= number <= 1:
        raise ConfigurationError(f'{place}: "correct" is a number from 0 to 1, not {value!r:.80}')
    return number


def _by_answer(judgements: Iterable[Judgement]) -> dict[tuple[str, str], Judgement]:
    found: dict[tuple[str, str], Judgement] = {}
    for one in judgements:
        if found.setdefault((one.question, one.run), one) is not one:
            raise ConfigurationError(f"two judgements of question {one.question!r} in run {one.run!r}: keep one")
    return found


def _currency(traces: Iterable[QueryTrace]) -> str:
    found = {trace.currency for trace in traces} or {"USD"}
    if len(found) > 1:
        raise ConfigurationError(f"costs in several currencies cannot be added: {', '.join(sorted(found))}")
    return found.pop()


def _check_runs(arms: Mapping[str, Mapping[str, Judged]], with_graph: str, without_graph: str) -> None:
    known = ", ".join(f"{arm!r} ({len(rows)})" for arm, rows in sorted(arms.items())) or "none"
    if with_graph == without_graph:
        raise ConfigurationError(f"two runs are compared, not {with_graph!r} with itself; there are: {known}")
    for wanted in (with_graph, without_graph):
        if not arms.get(wanted):
            raise ConfigurationError(f"no judged answers of run {wanted!r}; there are: {known}")


def _some(rows: Mapping[str, Judged]) -> str:
    names = ", ".join(sorted(rows)[:_SHOWN])
    return names if len(rows) <= _SHOWN else f"{names}, …"
