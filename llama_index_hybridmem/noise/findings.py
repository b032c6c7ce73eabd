"""What a detector finds, how it is written and registered; pure, knows none of them and no language model.

A detector is one of two functions, both pure:

- of a passage: ``(passage, scene) -> finding or None``; it may look at the others, and must not need them;
- of a scene: ``scene -> iterable of (passage id or None, finding)``; None for a finding about the question as a whole.

Detectors judge texts only: a `Passage`'s ``damage`` and a scene's ``gold`` are not theirs to read, nor a scene's
``near`` and ``removed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.edits import Span
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.scene import Passage, Scene


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Attributes:
        kind: of noise.
        operator: the operator that makes such damage: the way in which it is broken.
        severity: 0 to 1, in that operator's sense, as far as it can be told.
        spans: where in the passage's text.
    """

    kind: Kind
    operator: str
    severity: float
    spans: tuple[Span, ...] = ()


OfPassage = Callable[[Passage, Scene], "Finding | None"]
OfScene = Callable[[Scene], "Iterable[tuple[str | None, Finding]]"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Detector:
    """A registered detector.

    Attributes:
        name: unique.
        kind: of noise that it finds.
        version: goes up when what it finds changes, so that old profiles are not compared with new ones.
        about: its docstring's first line.
        of_passage: looks at a passage; None for one that looks at scenes.
        of_scene: looks at a scene.
    """

    name: str
    kind: Kind
    version: int
    about: str
    of_passage: OfPassage | None = None
    of_scene: OfScene | None = None


_REGISTERED: dict[str, Detector] = {}


def of_passage(name: str, kind: Kind, version: int = 1) -> Callable[[F], F]:
    """Register a function of a passage as a detector."""

    def register(function: F) -> F:
        _add(Detector(name, kind, version, _about(function), of_passage=function))
        return function

    return register


def of_scene(name: str, kind: Kind, version: int = 1) -> Callable[[F], F]:
    """Register a function of a scene as a detector."""

    def register(function: F) -> F:
        _add(Detector(name, kind, version, _about(function), of_scene=function))
        return function

    return register


def detectors(kind: Kind | None = None) -> Iterator[Detector]:
    """Give all registered detectors, or those of one kind, by name."""
    return (_REGISTERED[name] for name in sorted(_REGISTERED) if kind in (None, _REGISTERED[name].kind))


def versions() -> dict[str, int]:
    """Give every registered detector's version, by name."""
    return {each.name: each.version for each in detectors()}


def detect(scene: Scene, only: Iterable[str] | None = None) -> Mapping[str | None, tuple[Finding, ...]]:
    """Let all detectors look at a scene.

    Args:
        scene: the scene.
        only: names of the detectors to ask; None: all.

    Returns:
        passage id to what was found in it, in order of the detectors' names; None to what is wrong with the list.
        Passages in which nothing was found are left out.
    """
    chosen = list(detectors()) if only is None else [_REGISTERED[name] for name in only]
    found: dict[str | None, list[Finding]] = {}
    for each in chosen:
        for id_, finding in _ask(each, scene):
            found.setdefault(id_, []).append(finding)
    return {id_: tuple(findings) for id_, findings in found.items()}


def _ask(which: Detector, scene: Scene) -> Iterator[tuple[str | None, Finding]]:
    if which.of_scene is not None:
        yield from which.of_scene(scene)
    if which.of_passage is not None:
        for passage in scene.passages:
            finding = which.of_passage(passage, scene)
            if finding is not None:
                yield passage.id, finding


def _about(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _add(which: Detector) -> None:
    if which.kind not in KINDS:
        raise ConfigurationError(f"{which.name}: {which.kind!r} is no kind of noise; there are {', '.join(KINDS)}")
    if which.name in _REGISTERED:
        raise ConfigurationError(f"there is a detector {which.name!r} already")
    _REGISTERED[which.name] = which
