"""Asks a candidate, its base and the promoted version the same rows, and keeps what they say; trains nothing.

Answers are kept in a file for each of the three, so that a run that was killed asks only who was not asked yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index_hybridmem.disk import make_folder
from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError, UnknownAdapterError
from llama_index_hybridmem.example import Example, digest
from llama_index_hybridmem.export.shards import fingerprint, read_object, write_object
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry, AdapterVersion
from llama_index_hybridmem.training.asking import MAX_NEW_TOKENS
from llama_index_hybridmem.training.bases import locate
from llama_index_hybridmem.training.measuring import Done, measured, opened
from llama_index_hybridmem.training.probes import Measured, Probe, measure
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.runs import CANDIDATE
from llama_index_hybridmem.training.scores import Score, score, summarise
from llama_index_hybridmem.training.verdict import Verdict, judge

ANSWERS, VERDICT = "answers", "verdict.json"
BASE, PROMOTED = "base", "promoted"
PROMOTED_ALIASES = ("prod", "latest")
"""What stands for the promoted version: the first of them that there is."""
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Candidate:
    """What came of it.

    Attributes:
        folder: all of it lies there.
        weights: the adapter's folder below it.
        version: how the registry names it; None without one.
        report: what verdict.json says.
    """

    folder: Path
    weights: Path
    version: str | None
    report: Mapping[str, Any]

    @property
    def passed(self) -> bool | None:
        """Whether it may take the place of what it was compared with; None: it cannot be told."""
        found: bool | None = self.report["passed"]
        return found


@dataclass(frozen=True)
class Answered:
    """What one of the compared said.

    Attributes:
        answers: to each row.
        scores: of them.
        skills: answers to the probes, judged; None where none was asked.
    """

    answers: tuple[str, ...]
    scores: tuple[Score, ...]
    skills: Mapping[str, Measured] | None


def promoted(registry: AdapterRegistry | None, name: str) -> AdapterVersion | None:
    """Give the promoted version: what ``prod``, or else ``latest``, stands for; None where nothing does."""
    if registry is None:
        return None
    try:
        aliases = registry.aliases(name)
    except UnknownAdapterError:
        return None
    called = next((alias for alias in PROMOTED_ALIASES if alias in aliases), None)
    return None if called is None else registry.get(f"{name}@{called}")


def check_promoted(registry: AdapterRegistry, version: AdapterVersion, base: Path | str) -> None:
    """Check that a version's files are whole, and made for this base, before anything is trained.

    Args:
        registry: that has it.
        version: the promoted one.
        base: see `bases.locate`; one that lies in no folder is checked when it is loaded.

    Raises:
        AdapterRefusedError: they are not; says what to do.
    """
    folder = Path(locate(base)[1])
    try:
        registry.verify(version)
        registry.check(f"{version.name}@{version.sha256}", folder if folder.is_dir() else None)
    except AdapterRefusedError as error:
        advice = f"{error.advice}. Name the base that {version.id} was trained on, or give the adapter another name"
        raise AdapterRefusedError(error.place, error.key, error.problem, advice) from error


def check_method(recipe: Recipe) -> None:
    """Refuse methods that make nothing a registry could keep and a server could serve beside its base.

    Raises:
        ConfigurationError: it is none of lora and qlora.
    """
    if recipe.method not in ("lora", "qlora"):
        raise ConfigurationError(f"method: lora or qlora makes an adapter to compare and keep, unlike {recipe.method}")


def ask_all(
    base: Path | str,
    adapters: Mapping[str, Path],
    examples: Sequence[Example],
    probes: Sequence[Probe],
    folder: Path,
    abstain: Sequence[str],
    done: Done | None = None,
) -> dict[str, Answered]:
    """Ask the base and adapters upon it.

    Args:
        base: see `bases.locate`.
        adapters: name to folder.
        examples: rows that were never trained on.
        probes: of skills that may be forgotten; () for none.
        folder: where the answers are kept.
        abstain: wordings of abstention.
        done: told after each answer.

    Raises:
        AdapterRefusedError: an adapter was made for another base.
        GenerationError: the model failed.
    """
    make_folder(folder)
    found, total = {}, (1 + len(adapters)) * (len(examples) + len(probes))
    with ExitStack() as stack:
        llm: Any = None
        for turn, (name, weights) in enumerate({BASE: None, **adapters}.items()):
            place, asked = folder / f"{name}.json", _asked(examples, probes, weights)
            if not (place.is_file() and read_object(place).get("asked") == asked):
                llm = llm or _open(stack, base, adapters)
                begun = turn * (len(examples) + len(probes))
                told = None if done is None else _Counting(done, begun, total)
                write_object(place, {"asked": asked, **_said(llm, name, examples, probes, abstain, told)})
            found[name] = _answered(read_object(place, "answers"), examples, abstain)
    return found


def verdicts(
    answered: Mapping[str, Answered], examples: Sequence[Example], margin: float, version: AdapterVersion | None
) -> dict[str, Verdict]:
    """Judge the candidate against the base and, where there is one, the promoted version.

    Args:
        answered: what `ask_all` gave: the base, the promoted version, the candidate.
        examples: that were asked.
        margin: see `verdict.judge`.
        version: the promoted one.
    """
    names = {BASE: "the base"} | ({} if version is None else {PROMOTED: version.id})
    new = answered[CANDIDATE]
    return {
        each: judge(
            answered[each].scores,
            new.scores,
            examples,
            margin=margin,
            general_before=answered[each].skills,
            general_after=new.skills,
            name=name,
        )
        for each, name in names.items()
    }


def summaries(answered: Mapping[str, Answered], examples: Sequence[Example]) -> dict[str, Any]:
    """Sum up the scores of each, as plain JSON types."""
    return {name: summarise(each.scores, examples).to_json() for name, each in answered.items()}


def said_then(folder: Path) -> Mapping[str, str]:
    """Give what an earlier candidate answered, by the rows' ids.

    Raises:
        StoreDamagedError: its file is not what was written.
    """
    found: Mapping[str, str] = read_object(folder / f"{CANDIDATE}.json", "answers")["answers"]
    return found


def _asked(examples: Sequence[Example], probes: Sequence[Probe], weights: Path | None) -> dict[str, Any]:
    """What decides the answers."""
    return {
        "rows": digest(examples),
        "probes": digest(each.example for each in probes),
        "weights": None if weights is None else fingerprint(weights / WEIGHTS),
    }


def _open(stack: ExitStack, base: Path | str, adapters: Mapping[str, Path]) -> Any:
    llm = opened(base, adapters)
    stack.callback(llm.close)
    return llm


def _said(
    llm: Any, name: str, examples: Sequence[Example], probes: Sequence[Probe], abstain: Sequence[str], done: Any
) -> dict[str, Any]:
    adapter = None if name == BASE else name
    said = measured(llm, examples, abstain, adapter=adapter, done=done, max_new_tokens=_new_tokens(examples))
    skills = None
    if probes:
        later = None if done is None else done.after(len(examples))

        def answer(asked: Sequence[Example]) -> Sequence[str]:
            return measured(llm, asked, abstain, adapter=adapter, done=later).answers

        skills = {skill: [list(each.right), each.chance] for skill, each in measure(answer, probes).items()}
    return {
        "answers": {each.id: text for each, text in zip(examples, said.answers, strict=True)},
        "skills": skills,
    }


def _new_tokens(examples: Sequence[Example]) -> int:
    """Room for the longest answer: no tokenizer takes more than a token for each two bytes of words."""
    return max((MAX_NEW_TOKENS, *(len(each.completion.encode("utf-8", "replace")) // 2 for each in examples)))


def _answered(kept: Mapping[str, Any], examples: Sequence[Example], abstain: Sequence[str]) -> Answered:
    answers = tuple(kept["answers"][each.id] for each in examples)
    skills = kept["skills"]
    return Answered(
        answers,
        tuple(score(text, each, abstain) for text, each in zip(answers, examples, strict=True)),
        None if skills is None else {name: Measured(tuple(right), chance) for name, (right, chance) in skills.items()},
    )


@dataclass(frozen=True)
class _Counting:
    """Counts one's answers among all."""

    done: Done
    begun: int
    total: int

    def __call__(self, count: int, _: int) -> None:
        self.done(self.begun + count, self.total)

    def after(self, count: int) -> _Counting:
        return _Counting(self.done, self.begun + count, self.total)
