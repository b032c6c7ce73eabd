"""Which noise training has and which it has not, and test rows with one kind each; knows no model and no arm.

Labels and prompts come from what `hybridmem dataset export` uses: `make_record` and the project's own wording. What an
operator cannot do to a question's answering passage is no test of it: the next questions to which it can be done are
taken, in a drawn order. All arms answer the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from llama_index_hybridmem.example import Example, Message
from llama_index_hybridmem.export.formats import tell
from llama_index_hybridmem.export.making import LeftOut, make_record
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft, Record
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Passage, World
from noise_arms.questions import TOP_K, Questions

SYSTEM = (
    "Answer the question from the sources alone, with as few of their words as possible. Sources can be cut off, badly "
    "formatted or about something else. Where they contradict each other, believe the one with the newest date, and "
    "never a forum post, an unverified mirror, an anonymous comment, a machine-made summary or an old blog draft. Use "
    "only what answers the question. {form}"
)
"""All arms but the prompted one get it: what a policy asks for is said, or no base could follow it."""

WORDING = Wording(SYSTEM, citation="none", shown=("title", "source", "date"))

ABSTAINING = 0.25
"""Share of the training rows in which nothing answers, of the clean and of the noisy arm."""

_SOME, _MUCH = (0.2, 0.3, 0.4, 0.5, 0.6), (0.4, 0.5, 0.6, 0.7, 0.8)
"""Quantiles of severities."""


def _rate(rate: float, severity: tuple[float, float, float, float, float] = _MUCH, *only: str) -> KindRate:
    return KindRate(rate, rate, rate, severity=severity, operators=dict.fromkeys(only, 1.0))


NOISY = Profile(
    {
        "conflict": _rate(0.15),
        "stale": _rate(0.15),
        "truncation": _rate(0.2),
        "markdown": _rate(0.5),
        "html": _rate(0.12),
        "metadata": _rate(0.12),
        "irrelevant": _rate(0.06),
        "distractor": _rate(0.06, _MUCH, "hard_distractor"),
    },
    source="policy kinds twice as often as the others",
)
"""What the noisy arm is trained on: chances of a passage, of which a prompt has three."""

CLEAN = Profile({}, source="no noise")


@dataclass(frozen=True)
class Trial:
    """A kind of noise that is tested alone.

    Attributes:
        name: of it.
        group: ``clean``, ``policy`` (the model must know whom to trust, and when to abstain), ``formats``, ``other``.
        is_seen: whether training has it.
        rates: what makes it; kinds to rates.
        counts: whether it was done to a record so that the record tests it.
        distractors: passages in the prompt besides the three.
        p_gold: see `ExportOptions`.
    """

    name: str
    group: str
    is_seen: bool
    rates: Mapping[Kind, KindRate] = field(default_factory=dict)
    counts: Callable[[Record], bool] = lambda record: True
    distractors: int = 0
    p_gold: float | None = None


def _on_gold(*kinds: Kind) -> Callable[[Record], bool]:
    """Whether the passage that answers was damaged so."""
    return lambda record: any(each.id in record.gold and each.has(*kinds) for each in record.noisy)


def _lure(record: Record) -> tuple[int, Passage] | None:
    """The one false copy of what answers, and its place; None when there is none, or several."""
    found = [(at, each) for at, each in enumerate(record.noisy) if each.has("conflict", "stale")]
    of_gold = [each for _, each in found if any(damage.note.get("id") in record.gold for damage in each.damage)]
    return found[0] if len(found) == 1 == len(of_gold) else None


def _denied(record: Record, *, before: bool | None = None) -> bool:
    lure = _lure(record)
    truth = next((at for at, each in enumerate(record.noisy) if each.id in record.gold), None)
    if lure is None or truth is None:
        return False
    return before is None or (lure[0] < truth) == before


def _twin(record: Record) -> bool:
    """Whether what answers has a copy about something else."""
    notes = (damage.note.get("id") for each in record.noisy for damage in each.damage if each.has("distractor"))
    return record.answerable and not record.gold.isdisjoint(filter(None, notes))


def _has(kind: Kind) -> Callable[[Record], bool]:
    return lambda record: record.answerable and kind in record.kinds()


ATTEMPTS = 8
"""Draws for each question and kind."""

_ONE = 0.34
"""Chance of each of three passages to get a false copy: mostly one of them does."""

TRIALS: tuple[Trial, ...] = (
    Trial("clean", "clean", True),
    Trial("nothing answers", "policy", True, p_gold=0.0),
    Trial("answer's passage cut", "policy", True, {"truncation": _rate(0.7)}, _on_gold("truncation")),
    Trial("untrusted source first", "policy", True, {"conflict": _rate(_ONE)}, lambda one: _denied(one, before=True)),
    Trial("untrusted source last", "policy", True, {"conflict": _rate(_ONE)}, lambda one: _denied(one, before=False)),
    Trial("stale version", "policy", True, {"stale": _rate(_ONE)}, _denied),
    Trial("broken Markdown", "formats", True, {"markdown": _rate(1.0)}, _on_gold("markdown")),
    Trial("HTML left over", "formats", True, {"html": _rate(1.0)}, _on_gold("html")),
    Trial("metadata wrong", "other", True, {"metadata": _rate(1.0)}, _on_gold("metadata")),
    Trial("irrelevant passages", "other", True, {"irrelevant": _rate(0.5)}, _has("irrelevant")),
    Trial("two distractors more", "other", True, counts=_has("distractor"), distractors=2),
    Trial("OCR", "other", False, {"ocr": _rate(1.0, _SOME)}, _on_gold("ocr")),
    Trial("layout", "other", False, {"layout": _rate(1.0)}, _on_gold("layout")),
    Trial("encoding", "other", False, {"encoding": _rate(1.0)}, _on_gold("encoding")),
    Trial("fictitious", "other", False, {"distractor": _rate(_ONE, _MUCH, "fictitious")}, _twin),
    Trial("duplicates", "other", False, {"duplicate": _rate(_ONE)}, _has("duplicate")),
)
"""Contradictions come with a doubtful source, always: without a cue no label would be right. So "contradiction" and
"untrusted source" are one operator here, and two rows: by which of the two a reader meets first."""


@dataclass(frozen=True)
class Asked:
    """A test row.

    Attributes:
        source: of the question.
        trial: name of the kind.
        question: its id, the same in all trials that ask it.
        example: prompt and label.
        lure: the false value that stands where the answer stood; None without one.
    """

    source: str
    trial: str
    question: str
    example: Example
    lure: str | None = None


def damaged_rows(questions: Questions, count: int, seed: int, split: str = "test") -> Iterator[Asked]:
    """Give the test rows of a source: so many of each kind, or all to which it can be done.

    Every kind begins where the one before ended, so that few rows ask many questions.

    Args:
        questions: of the source.
        count: rows of each trial.
        seed: of the order and of all damage.
        split: "test", or "train" for rows to choose a prompt on.
    """
    drafts = list(questions.train if split == "train" else questions.test)
    Random(f"{seed}:{questions.name}").shuffle(drafts)
    again: Counter[str | None] = Counter()
    turns = {}
    for each in drafts:  # a fact that is asked for in several phrasings counts once, before any counts twice
        turns[each.id] = again[each.scene.answer]
        again[each.scene.answer] += 1
    drafts.sort(key=lambda each: turns[each.id])
    for number, trial in enumerate(TRIALS):
        at = number * count % max(len(drafts), 1)
        yield from _rows(trial, [*drafts[at:], *drafts[:at]], questions, count, seed, questions.worlds[split])


def _rows(
    trial: Trial, drafts: Sequence[Draft], questions: Questions, count: int, seed: int, world: World
) -> Iterator[Asked]:
    mix = Mix.of(Profile(trial.rates))
    found = 0
    for draft in drafts:
        record = _record(trial, draft, mix, seed, world) if found < count else None
        if record is not None:
            found += 1
            lure = _lure(record)
            said = next((damage.note.get("now") for damage in lure[1].damage), None) if lure else None
            id_ = f"{questions.name}/{trial.name}/{record.id}"
            yield Asked(questions.name, trial.name, record.id, example(record, id_), said)


def _record(trial: Trial, draft: Draft, mix: Mix, seed: int, world: World) -> Record | None:
    """The question with its damage; drawn some times, until it tests what it shall."""
    for attempt in range(ATTEMPTS):
        options = ExportOptions(
            seed * ATTEMPTS + attempt,
            top_k=TOP_K,
            distractors=trial.distractors,
            p_gold=trial.p_gold,
            wording=WORDING,
            fitted=False,
        )
        record = make_record(draft, options, mix, world, "test")
        if not isinstance(record, LeftOut) and trial.counts(record):
            return record
    return None


def example(record: Record, id_: str) -> Example:
    """Put a record into words."""
    told = tell(record, WORDING)
    turns: tuple[Message, ...] = ({"role": "user", "content": told.user},)
    if told.system is not None:
        turns = ({"role": "system", "content": told.system}, *turns)
    expected = record.expected if record.answerable else None
    sources = tuple(each.text for each in record.noisy)
    return Example(id_, turns, told.assistant, expected, record.answerable, record.kinds(), sources)
