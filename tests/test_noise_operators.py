"""What holds for every registered operator of noise, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_zoo import EVERY, SCENES, STRANGE, WORLD, Run, all_passages, digests, places, plain, runs, scene_of

from llama_index_hybridmem.noise.operators.registry import Operator, damage, operator
from llama_index_hybridmem.noise.scene import Damage, Passage, Scene

each_operator = pytest.mark.parametrize("which", EVERY, ids=lambda which: which.name)

ONE_WAY = {"gold_removed"}
"""Operators that draw nothing on these scenes: there is one way to do what they do."""

CALLS = {"gold_removed": ("irrelevant_passage",)}
"""Operators that mark passages with another's name, too: those that the list was filled up with."""

WORDS = st.sampled_from(
    "The Heron 400 draws 12.5 watts since 14 March 2022, said Dr. Anna Müller. | --- | ``` # - [a](b) \n\n \r\n “x” "
    "'y' 日本語 שלום e\u0301 \u200b &amp; <b> \ud83d".split(" ")
)
TEXTS = st.one_of(st.lists(WORDS, max_size=30).map(" ".join), st.text(max_size=40))
SEVERITIES = st.floats(0.01, 1)


@each_operator
def test_severity_0_gives_the_same_object(which: Operator) -> None:
    """At severity 0 a scene comes back as it is, not as a copy."""
    for scene in SCENES:
        assert all(damage(scene, which, 0, "seed", WORLD, at) is scene for at in places(scene, which))


@each_operator
def test_it_finds_something_to_break(which: Operator) -> None:
    """On scenes with prose, Markdown, metadata and gold every operator changes something at full severity."""
    assert any(run.after is not run.before for run in runs(which) if run.severity == 1)


@each_operator
def test_what_changed_is_marked_and_the_marks_are_true(which: Operator) -> None:
    """Outside of the marked stretches a text is the original's; fields that differ are named; all else is untouched."""
    for run in runs(which):
        if run.after is not run.before:
            (_check_passage if which.scope == "passage" else _check_scene)(which, run)


@each_operator
def test_marks_of_earlier_damage_stay_inside_the_text(which: Operator) -> None:
    """What was marked before is still marked, at places that the text has."""
    for scene in SCENES:
        for at in places(scene, which):
            before = _damaged_before(scene)
            after = damage(before, which, 1, "later", WORLD, at)
            _check_earlier(before, after)
            for passage in (*after.passages, *after.removed):
                for done in passage.damage:
                    assert all(0 <= start <= end <= len(passage.text) for start, end in done.spans)


@each_operator
def test_the_same_seed_does_the_same_and_another_something_else(which: Operator) -> None:
    """A seed decides everything; of twelve seeds at least two differ in what they do."""
    varied = False
    for scene in SCENES:
        for at in places(scene, which):
            first = [damage(scene, which, 0.5, f"seed {n}", WORLD, at) for n in range(12)]
            again = damage(scene, which, 0.5, "seed 3", WORLD, at)
            assert plain(again) == plain(first[3])
            varied |= len({_contents(each) for each in first}) > 1
    assert varied or which.name in ONE_WAY


def test_the_same_seed_does_the_same_in_another_process() -> None:
    """Nothing hangs on the process's own hash seed, for any operator."""
    script = "import noise_zoo; print(noise_zoo.digests())"
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    here = json.loads(digests())
    assert [name for name in here if here[name] != there.get(name)] == []


@each_operator
def test_a_passage_is_never_emptied(which: Operator) -> None:
    """Something is left of every passage, unless the operator is registered as one that may empty it."""
    if which.may_empty:
        pytest.skip("may empty a passage")
    scenes = [run.after for run in runs(which)] + [
        damage(scene_of(text), which, 1, "s", WORLD) for text in "ab é. 日".split()
    ]
    assert all(each.text.strip() for scene in scenes for each in scene.passages)


@each_operator
def test_strange_texts_are_survived(which: Operator) -> None:
    """No text raises, and none that can be written as UTF-8 becomes one that cannot."""
    for text in STRANGE:
        scene = scene_of(text)
        for severity in (0.1, 1.0):
            _check_any(which, scene, damage(scene, which, severity, f"s{severity}", WORLD))


@each_operator
@settings(max_examples=8)
@given(text=TEXTS, severity=SEVERITIES, seed=st.text("abc", max_size=3))
def test_any_text_is_survived_and_marked_truly(which: Operator, text: str, severity: float, seed: str) -> None:
    """What holds on the fixed scenes holds for texts of any make."""
    scene = scene_of(text)
    after = damage(scene, which, severity, seed, WORLD)
    _check_any(which, scene, after)
    if after is not scene:
        (_check_passage if which.scope == "passage" else _check_scene)(which, Run(scene, 0, severity, after))


@each_operator
def test_nothing_handed_in_is_changed(which: Operator) -> None:
    """Scenes, their passages' metadata and the world stay as they were."""
    before = json.dumps([plain(scene) for scene in SCENES]), repr(WORLD)
    for scene in SCENES:
        for at in places(scene, which):
            damage(scene, which, 1, "seed", WORLD, at)
    assert (json.dumps([plain(scene) for scene in SCENES]), repr(WORLD)) == before


@each_operator
def test_more_severity_changes_no_less(which: Operator) -> None:
    """Over all scenes and seeds, severity 1 changes at least as much as 0.2, but for a twentieth of chance."""
    amounts = {
        severity: sum(_amount(run) for run in runs(which, 8) if run.severity == severity) for severity in (0.2, 1.0)
    }
    assert amounts[1.0] >= 0.95 * amounts[0.2]


def _check_passage(which: Operator, run: Run) -> None:
    before, after = run.before, run.after
    assert after == before.with_passages(
        [*before.passages[: run.at], after.passages[run.at], *before.passages[run.at + 1 :]]
    )
    was, now = before.passages[run.at], after.passages[run.at]
    assert [done.operator for done in now.damage] == [*(done.operator for done in was.damage), which.name]
    assert (now.damage[-1].kind, now.damage[-1].severity) == (which.kind, run.severity)
    assert (now.id, now.source, now.score) == (was.id, was.source, was.score)
    _check_change(was, now, now.damage[-1])


def _check_scene(which: Operator, run: Run) -> None:
    """Passages that are not the originals are marked with the operator's name and kind; none got lost."""
    known = {each.id: each for each in all_passages(run.before)}
    here = [*run.after.passages, *run.after.removed]
    assert len({each.id for each in run.after.passages}) == len(run.after.passages)
    assert {each.id for each in run.before.passages} <= {each.id for each in here}
    marked = [each for each in here if each != known.get(each.id)]
    names = {each.damage[-1].operator for each in marked}
    assert which.name in names <= {which.name, *CALLS.get(which.name, ())}
    assert all(each.damage[-1].kind == operator(each.damage[-1].operator).kind for each in marked)
    for each in marked:
        original = known.get(each.id) or known.get(each.damage[-1].note.get("id", ""))
        if original is not None:
            _check_change(original, each, each.damage[-1])
    assert (run.after.question, run.after.gold, run.after.answer) == (
        run.before.question,
        run.before.gold,
        run.before.answer,
    )


def _check_change(was: Passage, now: Passage, done: Damage) -> None:
    assert _is_true(was.text, now.text, done), (was.text, now.text, done.spans)
    differing = {name for name in {**was.metadata, **now.metadata} if was.metadata.get(name) != now.metadata.get(name)}
    assert differing == set(done.fields)


def _is_true(was: str, now: str, done: Damage) -> bool:
    """Whether the stretches between the spans stand in the original in the same order, from its start to its end."""
    at, kept = 0, []
    for start, end in done.spans:
        if not at <= start <= end <= len(now):
            return False
        kept.append(now[at:start])
        at = end
    kept.append(now[at:])
    if not done.spans:
        return was == now
    if not was.startswith(kept[0]) or not was.endswith(kept[-1]) or sum(map(len, kept)) > len(was):
        return False
    at = len(kept[0])
    for piece in kept[1:-1]:
        at = was.find(piece, at) + len(piece)
        if at < len(piece):
            return False
    return at <= len(was) - len(kept[-1])


def _check_earlier(before: Scene, after: Scene) -> None:
    """Each passage that is still there has its earlier damage, told as before but for the places."""
    now = {each.id: each for each in (*after.passages, *after.removed)}
    for was in before.passages:
        earlier = now[was.id].damage[: len(was.damage)]
        assert [(done.operator, done.seed, done.original) for done in earlier] == [
            (done.operator, done.seed, done.original) for done in was.damage
        ]


def _check_any(which: Operator, before: Scene, after: Scene) -> None:
    broken = _has_surrogates(before)
    for passage in (*after.passages, *after.removed):
        assert which.may_empty or passage.text.strip() or not any(each.text.strip() for each in before.passages)
        json.dumps(passage.metadata)
    assert broken or not _has_surrogates(after)


def _has_surrogates(scene: Scene) -> bool:
    try:
        json.dumps(plain(scene), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _damaged_before(scene: Scene) -> Scene:
    for at in range(len(scene.passages)):
        for name in ("html_residue", "ocr", "truncate_tokens"):
            scene = damage(scene, operator(name), 0.5, f"{name} {at}", WORLD, at)
    return scene


def _contents(scene: Scene) -> str:
    """What a reader would see of a scene."""
    return json.dumps([(each.id, each.text, each.metadata) for each in scene.passages], sort_keys=True)


def _amount(run: Run) -> float:
    """How much differs: signs put in and lost, fields, and passages added, moved and taken away."""
    known = {each.id: (n, each) for n, each in enumerate(run.before.passages)}
    amount = 100.0 * len(run.after.removed)
    for n, passage in enumerate(run.after.passages):
        was = known.get(passage.id)
        if was is None:
            amount += 100
        elif passage is not was[1]:
            amount += abs(n - was[0]) + sum(map(_touched, passage.damage)) + abs(len(passage.text) - len(was[1].text))
    return amount


def _touched(done: Damage) -> int:
    return sum(1 + end - start for start, end in done.spans) + 10 * len(done.fields)
