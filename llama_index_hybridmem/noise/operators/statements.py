"""Operators that make passages say something false: in place, as an older copy, as another source, of another entity.

Pure, knows no detector. An added copy never gives the answer that it was made to deny: where the answer stands in the
passage it is the first to change, and what cannot change is not copied. ``severity`` is the share of a passage's values
that change, at least one; the operators of scenes add one passage each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from llama_index_hybridmem.noise.edits import Edit, edited
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.operators.denial import (
    denial,
    distinct,
    everywhere,
    figures_of,
    names_of,
    retitled,
    swapped,
    was_and_now,
)
from llama_index_hybridmem.noise.operators.registry import Change, mark, of_passage, of_scene
from llama_index_hybridmem.noise.others import another, older
from llama_index_hybridmem.noise.scene import (
    DATE_FIELDS,
    SOURCE_FIELDS,
    TITLE,
    VERSION_FIELDS,
    Passage,
    Scene,
    World,
    fresh_id,
)
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.noise.values import Value, moment, names, spots, stands
from llama_index_hybridmem.terms import content_stems

NAMES_SHARE = 0.3
"""How often names are swapped where there are figures, too: a wrong figure leaves the rest of a passage plausible."""
CUES = ("forum post", "unverified mirror", "anonymous comment", "machine-made summary", "old blog draft")
"""What an added source calls itself."""
AS_OF = "version_date"
"""The field that tells an older copy's age where nothing has a date."""
UNTRUE: tuple[Kind, ...] = ("counterfactual", "stale", "conflict", "irrelevant", "distractor")
"""Passages with such damage are not copied."""
WANTED = """\
Rewrite this passage so that it is about {new} instead of {old}. Invent all facts anew: other figures, dates and names.
Keep its form, length and layout, faults included. {ban}Reply with the passage alone.

{text}"""
"""What a language model is asked for."""
_CANDIDATES = 4  # passages that are tried until one can be changed
_SURROGATE = re.compile("[\ud800-\udfff]")


@of_passage("counterfactual", "counterfactual")
def counterfactual(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Swaps figures, or else names, for others of their type; severity is the share of them, at least one."""
    text = passage.text
    found = figures_of(text)
    if not found or draw.random() < NAMES_SHARE:
        found = names(text) or found
    about = [each for each in distinct(found) if each.type == "name" and stands(each.text, passage.title)]
    order = [each for each in distinct(found) if each not in about] or about  # it stays about what it is about
    draw.shuffle(order)
    pool = names_of(world, draw) if order and order[0].type == "name" else ()
    put = swapped(order, severity, draw, pool, ("", passage.title, text))
    if not put:
        return None
    title = retitled(passage.title, put)
    fields = {TITLE: title} if title != passage.title else {}
    return Change(everywhere(text, found, put), fields, was_and_now(put))


@of_scene("stale_version", "stale", adds_one=True)
def stale_version(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Puts an older copy of a passage beside it, dated as such; severity is the share of its values that differ."""
    seed, own = _start(draw)
    for passage in _candidates(scene, own):
        change = denial(scene, passage, severity, own, world, first=older)
        if change is None:
            continue
        fields, cue = _back_dated(passage, seed, own)
        note = {"id": passage.id, **was_and_now(change.put), "cue": cue}
        if change.title != passage.title:
            fields[TITLE] = change.title
        copy = _copy(scene, passage, "stale")
        made = mark(copy, "stale_version", severity, seed, note, edits=change.edits, metadata=fields)
        at = scene.passages.index(passage) + own.randint(0, 1)
        return scene.with_passages([*scene.passages[:at], made, *scene.passages[at:]])
    return None


@of_scene("conflicting_source", "conflict", adds_one=True)
def conflicting_source(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds a less trustworthy source that says otherwise; severity is the share of its values that differ."""
    seed, own = _start(draw)
    for passage in _candidates(scene, own):
        change = denial(scene, passage, severity, own, world)
        if change is None:
            continue
        cue = own.choice(CUES)
        note = {"id": passage.id, **was_and_now(change.put), "cue": cue}
        copy = replace(_copy(scene, passage, "conflict"), source=None)
        fields = _less_trusted(passage, change.title, cue)
        made = mark(copy, "conflicting_source", severity, seed, note, edits=change.edits, metadata=fields)
        return _inserted(scene, made, own)
    return None


@of_scene("fictitious", "distractor", adds_one=True)
def fictitious(scene: Scene, severity: float, draw: Random, world: World) -> Scene | None:
    """Adds a passage like one that is there, about another entity; severity is the share of its values that differ."""
    seed, own = _start(draw)
    for passage in _candidates(scene, own):
        renamed = _renaming(scene, passage, own, world)
        if not renamed:
            continue
        edits = _written(scene, passage, renamed, world) or _retold(scene, passage, severity, renamed, own, world)
        if not edits:
            continue
        copy = replace(_copy(scene, passage, "fictitious"), source=None)
        note = {"id": passage.id, **was_and_now(renamed)}
        fields = _renamed_fields(passage, renamed)
        made = mark(copy, "fictitious", severity, seed, note, edits=edits, metadata=fields)
        if _is_beside(scene, passage, made):
            return _inserted(scene, made, own)
    return None


def _start(draw: Random) -> tuple[str, Random]:
    """A seed to be noted, and the random numbers that come from it."""
    seed = f"{draw.getrandbits(64):016x}"
    return seed, Random(seed)


def _candidates(scene: Scene, draw: Random) -> Iterator[Passage]:
    """Passages that may be copied: those that answer, in drawn order, then the best."""
    sound = [each for each in scene.passages if each.text.strip() and not each.has(*UNTRUE)]
    gold = [each for each in sound if scene.is_gold(each)]
    draw.shuffle(gold)
    ids = {each.id for each in gold}
    yield from [*gold, *(each for each in sound if each.id not in ids)][:_CANDIDATES]


def _copy(scene: Scene, passage: Passage, name: str) -> Passage:
    return replace(passage, id=fresh_id(passage, name, (*scene.passages, *scene.near, *scene.removed)))


def _inserted(scene: Scene, made: Passage, draw: Random) -> Scene:
    at = draw.randint(0, len(scene.passages))
    return scene.with_passages([*scene.passages[:at], made, *scene.passages[at:]])


def _back_dated(passage: Passage, seed: str, draw: Random) -> tuple[dict[str, Any], str]:
    """Metadata of an older copy, and the cue among them; all dates go back by as much."""
    for known in (DATE_FIELDS, VERSION_FIELDS):
        dated: dict[str, Any] = {}
        for name in known:
            value = passage.metadata.get(name)
            old = None if value is None else _older_field(value, Random(seed))
            if old is not None:
                dated[name] = old
        if dated:
            return dated, "{}: {}".format(*next(iter(dated.items())))
    said = moment(passage.text) or (0,)
    year = min(max(said[0], 2012), 2024) - draw.randint(1, 4)  # an older copy of our time, whatever it tells of
    return {AS_OF: f"as of {year}"}, f"{AS_OF}: as of {year}"


def _older_field(value: Any, draw: Random) -> Any:
    if isinstance(value, str):
        return older(value, draw)
    if isinstance(value, int) and not isinstance(value, bool):
        old = older(str(value), draw)
        return int(old) if old else None
    return None


def _less_trusted(passage: Passage, title: str, cue: str) -> dict[str, Any]:
    shown = {name: cue for name in SOURCE_FIELDS if passage.metadata.get(name)} or {SOURCE_FIELDS[0]: cue}
    return {TITLE: f"{title} ({cue})", **shown} if title else shown


def _renaming(scene: Scene, passage: Passage, draw: Random, world: World) -> dict[str, str]:
    """What the passage is about, and what its copy will be about; then the same for single words of the name."""
    entity = _entity(scene, passage)
    if entity is None:
        return {}
    avoid = (scene.answer or "", scene.question, passage.title, passage.text)
    new = another(entity, draw, names_of(world, draw, scene), avoid)
    if new is None:
        return {}
    parts = zip(entity.text.split(" "), new.split(" "), strict=False)
    return {
        entity.text: new,
        **{old: put for old, put in parts if len(old) > 3 and old[0].isupper() and put[0].isupper() and put != old},
    }


def _is_beside(scene: Scene, passage: Passage, made: Passage) -> bool:
    """Whether a copy of what answers has lost some of the question's words: else it would give it another answer."""
    asked = set(content_stems(scene.question))
    kept = asked & set(content_stems(f"{made.title} {made.text}"))
    return not scene.is_gold(passage) or kept < asked & set(content_stems(f"{passage.title} {passage.text}"))


def _entity(scene: Scene, passage: Passage) -> Value | None:
    """The name that title, question and text share most; one that the question has first."""
    found = names(passage.text)
    if passage.title[:1].isupper() and spots(passage.title, passage.text):
        found.append(Value(0, 0, passage.title, "name"))  # it may only open sentences
    counts = Counter(each.text for each in found)

    def weight(value: Value) -> tuple[int, int]:
        asked, titled = stands(value.text, scene.question), stands(value.text, passage.title)
        answers = bool(scene.answer) and stands(value.text, str(scene.answer))
        return counts[value.text] + 9 * asked + 4 * titled - 6 * answers, -value.start

    return max(found, key=weight, default=None)


def _written(scene: Scene, passage: Passage, renamed: Mapping[str, str], world: World) -> list[Edit] | None:
    """A language model's words; None without one, or when they will not do."""
    if world.write is None:
        return None
    old, new = next(iter(renamed.items()))
    answer = scene.answer or ""
    ban = f"Do not write “{answer}”. " if answer else ""
    text = world.write(WANTED.format(new=new, old=old, ban=ban, text=passage.text)).strip()
    says_it = bool(answer and quoted(answer, text)) or stands(old, text)
    if not text or text == passage.text.strip() or says_it or _SURROGATE.search(text):
        return None
    return [Edit(0, len(passage.text), text)]


def _retold(
    scene: Scene, passage: Passage, severity: float, renamed: Mapping[str, str], draw: Random, world: World
) -> list[Edit] | None:
    """The passage's own words with other names and values; None when the answer or the entity would stay."""
    change = denial(scene, passage, severity, draw, world, renamed=renamed)
    edits = change.edits if change else []
    if not change and not (scene.answer and quoted(scene.answer, passage.text)):
        edits = everywhere(passage.text, [], renamed)  # nothing but the name can change
    new, _ = edited(passage.text, edits)
    return None if stands(next(iter(renamed)), new) else edits


def _renamed_fields(passage: Passage, renamed: Mapping[str, str]) -> dict[str, Any]:
    """Title and sources that name the entity name the other one."""
    changed: dict[str, Any] = {}
    old, new = next(iter(renamed.items()))
    for name in (TITLE, *SOURCE_FIELDS):
        value = passage.metadata.get(name)
        if isinstance(value, str) and value:
            text = retitled(value, renamed)
            for blank in "-_":
                text = text.replace(old.lower().replace(" ", blank), new.lower().replace(" ", blank))
            if text != value:
                changed[name] = text
    return changed
