"""How an operator is written, registered and applied; pure, knows none of them.

An operator is one of three functions, all pure: random numbers come from the `random.Random` that is handed in.

- of a text: ``(text, severity, draw) -> edits``;
- of a passage: ``(passage, severity, draw, world) -> Change or None``;
- of a scene: ``(scene, severity, draw, world) -> scene or None``; it keeps or adds each passage's damage by `mark`.

Severity 0 changes nothing, 1 is the worst that still occurs. What finds nothing to break returns no edits, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, TypeVar

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.edits import Edit, edited, moved
from llama_index_hybridmem.noise.kinds import KINDS, Kind
from llama_index_hybridmem.noise.scene import Damage, Passage, Scene, World, digest, in_place


@dataclass(frozen=True, slots=True)
class Change:
    """What an operator wants changed about a passage.

    Attributes:
        edits: of its text, in order.
        metadata: new values; None takes a field away.
        note: particulars for the provenance.
    """

    edits: Sequence[Edit] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    note: Mapping[str, str] = field(default_factory=dict)


OfText = Callable[[str, float, Random], Sequence[Edit]]
OfPassage = Callable[[Passage, float, Random, World], "Change | None"]
OfScene = Callable[[Scene, float, Random, World], "Scene | None"]
Scope = Literal["passage", "scene"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operator:
    """A registered operator.

    Attributes:
        name: unique, in snake case.
        kind: of the noise that it makes.
        scope: whether it changes one passage or the list.
        about: its docstring's first line.
        change: of a passage; None for one of scenes.
        rearrange: of a scene; None for one of passages.
        may_empty: whether it may leave a passage without text.
        adds_one: whether it adds one passage to the list, and the severity is that one's; for other operators of
            scenes the severity is the share of the list.
    """

    name: str
    kind: Kind
    scope: Scope
    about: str
    change: OfPassage | None = None
    rearrange: OfScene | None = None
    may_empty: bool = False
    adds_one: bool = False


_REGISTERED: dict[str, Operator] = {}


def of_text(name: str, kind: Kind, *, may_empty: bool = False) -> Callable[[F], F]:
    """Register a function of a text as an operator."""

    def register(function: F) -> F:
        def change(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
            edits = function(passage.text, severity, draw)
            return Change(edits) if edits else None

        _add(Operator(name, kind, "passage", _about(function), change=change, may_empty=may_empty))
        return function

    return register


def of_passage(name: str, kind: Kind, *, may_empty: bool = False) -> Callable[[F], F]:
    """Register a function of a passage as an operator."""

    def register(function: F) -> F:
        _add(Operator(name, kind, "passage", _about(function), change=function, may_empty=may_empty))
        return function

    return register


def of_scene(name: str, kind: Kind, *, adds_one: bool = False) -> Callable[[F], F]:
    """Register a function of a scene as an operator."""

    def register(function: F) -> F:
        _add(Operator(name, kind, "scene", _about(function), rearrange=function, adds_one=adds_one))
        return function

    return register


def operator(name: str) -> Operator:
    """Give a registered operator.

    Raises:
        ConfigurationError: there is none of that name; lists those that are.
    """
    if name not in _REGISTERED:
        raise ConfigurationError(f"no noise operator {name!r}; there are {', '.join(sorted(_REGISTERED))}")
    return _REGISTERED[name]


def operators(kind: Kind | None = None) -> Iterator[Operator]:
    """Give all registered operators, or those of one kind, by name."""
    return (_REGISTERED[name] for name in sorted(_REGISTERED) if kind in (None, _REGISTERED[name].kind))


def damage(scene: Scene, which: Operator, severity: float, seed: str, world: World, at: int = 0) -> Scene:
    """Let an operator at a scene.

    Args:
        scene: it stays as it is.
        which: the operator.
        severity: 0 to 1.
        seed: of its random numbers; the same seed does the same.
        world: what it may draw from.
        at: which passage, for an operator of passages.

    Returns:
        the changed scene; the same object when there was nothing to change.

    Raises:
        ConfigurationError: the severity is out of range.
    """
    if not 0 <= severity <= 1:
        raise ConfigurationError(f"{which.name}: the severity lies between 0 and 1, not {severity}")
    if severity == 0:
        return scene
    draw = Random(seed)
    if which.rearrange is not None:
        after = which.rearrange(scene, severity, draw, world)
        known = (*scene.passages, *scene.near)
        return scene if after is None else after.with_passages(in_place(after.passages, known))
    changed = damage_passage(scene.passages[at], which, severity, seed, world, draw)
    if changed is scene.passages[at]:
        return scene
    return scene.with_passages([*scene.passages[:at], changed, *scene.passages[at + 1 :]])


def damage_passage(
    passage: Passage, which: Operator, severity: float, seed: str, world: World, draw: Random | None = None
) -> Passage:
    """Let an operator of passages at one; the same object comes back when there was nothing to change, see `damage`."""
    if which.change is None:
        raise ConfigurationError(f"{which.name} changes lists of passages, not one")
    if severity == 0:
        return passage
    change = which.change(passage, severity, draw or Random(seed), world)
    return passage if change is None else _changed(passage, which, severity, seed, change)


def mark(
    passage: Passage, name: str, severity: float, seed: str, note: Mapping[str, str] | None = None, **change: Any
) -> Passage:
    """Note on a passage what an operator of scenes did to it.

    Args:
        passage: it stays as it is.
        name: of the operator.
        severity: as it was applied.
        seed: any text that tells this use of the operator from others.
        note: particulars.
        **change: ``edits`` and ``metadata`` of a `Change`, when text or metadata change, too.
    """
    which = operator(name)
    return _changed(passage, which, severity, seed, Change(note=note or {}, **change), always=True)


def _changed(
    passage: Passage, which: Operator, severity: float, seed: str, change: Change, always: bool = False
) -> Passage:
    text, spans = edited(passage.text, change.edits)
    known = passage.metadata
    metadata = {name: value for name, value in {**known, **change.metadata}.items() if value is not None}
    if text == passage.text and metadata == known and not always:
        return passage
    if not which.may_empty and passage.text.strip() and not text.strip():
        return passage
    earlier = tuple(replace(each, spans=tuple(moved(each.spans, change.edits))) for each in passage.damage)
    done = Damage(
        which.name,
        which.kind,
        severity,
        seed,
        digest(passage),
        tuple(spans),
        tuple(name for name in change.metadata if metadata.get(name) != known.get(name)),
        change.note,
    )
    return replace(passage, text=text, metadata=metadata, damage=(*earlier, done))


def _about(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _add(which: Operator) -> None:
    if which.kind not in KINDS:
        raise ConfigurationError(f"{which.name}: {which.kind!r} is no kind of noise; there are {', '.join(KINDS)}")
    if which.name in _REGISTERED:
        raise ConfigurationError(f"there is a noise operator {which.name!r} already")
    _REGISTERED[which.name] = which
