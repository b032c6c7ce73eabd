"""Tests of operators of the list of passages, and of the detector of duplicates."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.noise.detectors import duplicates as detectors  # noqa: F401 - registers
from llama_index_hybridmem.noise.findings import detect
from llama_index_hybridmem.noise.operators import lists as operators  # noqa: F401 - registers
from llama_index_hybridmem.noise.operators.registry import damage, operator
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import evidence, quoted, support

DATA = Path(os.environ.get("HYBRIDMEM_DATA", Path(__file__).parents[2] / "shared" / "data")) / "noise"
LISTS = ("irrelevant_passage", "hard_distractor", "duplicate", "near_duplicate", "shuffle", "gold_removed")
TOPICS = "granite weather music bread rivers chess looms copper".split()


def about(topic: str, n: int, more: str = "") -> Passage:
    """A passage on a topic, of a document of its own."""
    own = f"{topic}{'abcdefghij'[n]}"  # a word of its own in every run of three
    text = (
        f"The {own} page tells {own} stories of {own}, and how {own} came here. It, {own} says, was {own} with "
        f"much {own} care and {own} patience. Nobody {own} saw will {own} ever forget {own} or {topic}. {more}"
    ).strip()
    return Passage(f"{topic}{n}", text, {"title": topic}, f"{topic}-doc{n}")


GOLD = about("granite", 1, "The quarry of Aster closed in 1987 after a long strike.")
SCENE = Scene(
    "When did the quarry of Aster close?",
    (about("granite", 0), GOLD, about("weather", 0), about("music", 0)),
    near=(about("bread", 0, "The quarry closed in 1987."), about("bread", 1, "The quarry of Aster was big.")),
    gold=frozenset({"granite1"}),
    answer="1987",
)
WORLD = World([about(topic, n) for topic in TOPICS for n in range(5, 9)] + [about("rivers", 1, "In 1987 it rained.")])
PASSAGES = st.lists(
    st.lists(
        st.sampled_from(["\ud800", "שלום", "東京", "\r\n", "1987", "Ann. Bob, who", "\u200b", " "])
        | st.text(max_size=5)
    ).map(" ".join),
    min_size=1,
    max_size=5,
)


def added(after: Scene, before: Scene = SCENE) -> list[Passage]:
    """What was not there before."""
    ids = {each.id for each in before.passages}
    return [each for each in after.passages if each.id not in ids]


def found(passages: Sequence[Passage]) -> dict[str | None, str]:
    """Where a duplicate is found, and which operator makes such."""
    return {id_: each.operator for id_, (each,) in detect(Scene("?", tuple(passages)), ["duplicates"]).items()}


@given(PASSAGES, st.floats(0.01, 1), st.integers(0, 99), st.sampled_from(LISTS))
def test_any_list_is_changed_repeatably(texts: list[str], severity: float, seed: int, name: str) -> None:
    """The same seed does the same, ids stay unique, no text is emptied, and every change is marked."""
    passages = tuple(Passage(str(n), text) for n, text in enumerate(texts))
    scene = Scene("Who is Ann?", passages, gold=frozenset({"0"}), answer="1987")
    first, again = (damage(scene, operator(name), severity, f"{seed}", WORLD) for _ in range(2))
    assert first == again
    assert len({each.id for each in first.passages}) == len(first.passages)
    new = [each for each in first.passages if each not in passages]
    assert all(each.damage and each.text.strip() for each in new if name != "shuffle")
    assert first is scene or new or first.removed


@pytest.mark.parametrize("name", LISTS)
def test_severity_zero_changes_nothing(name: str) -> None:
    """An operator at 0 hands the same scene back."""
    assert damage(SCENE, operator(name), 0, "1", WORLD) is SCENE


@pytest.mark.parametrize("name", ["irrelevant_passage", "duplicate", "near_duplicate"])
@pytest.mark.parametrize(("severity", "count"), [(0.1, 1), (0.5, 2), (1.0, 4)])
def test_severity_is_the_share_of_the_list_that_is_added(name: str, severity: float, count: int) -> None:
    """At 1 as many come as there are, at the least one; what was there stays, in its order."""
    after = damage(SCENE, operator(name), severity, "1", WORLD)
    assert len(added(after)) == count
    assert [each for each in after.passages if not each.damage] == list(SCENE.passages)


@pytest.mark.parametrize("seed", range(10))
def test_irrelevant_passages_are_about_something_else(seed: int) -> None:
    """None of a source that is there, none with the answer, none with half of the question's words."""
    known = replace(SCENE, question="Which granite is hardest?")
    after = damage(known, operator("irrelevant_passage"), 1, f"{seed}", WORLD)
    assert added(after)
    assert not {each.source for each in added(after)} & {each.source for each in SCENE.passages}
    assert not any("granite" in each.text or "1987" in each.text for each in added(after))


def test_places_are_drawn() -> None:
    """Added passages come first, last and between."""
    afters = [damage(SCENE, operator("irrelevant_passage"), 0.1, f"{seed}", WORLD) for seed in range(40)]
    assert {after.passages.index(added(after)[0]) for after in afters} == set(range(5))


def test_hard_distractors_are_what_was_found_just_beyond() -> None:
    """The next found come first, unless they give the answer; then the closest of the world; near keeps the rest."""
    after = damage(SCENE, operator("hard_distractor"), 0.2, "1", WORLD)
    assert [each.damage[0].note["id"] for each in added(after)] == ["bread1"]
    assert [each.id for each in after.near] == ["bread0"]
    chess = replace(SCENE, question="Who wrote about chess?", near=())
    after = damage(chess, operator("hard_distractor"), 0.2, "1", World(WORLD.passages[:30]))
    assert [each.title for each in added(after)] == ["chess"]


def test_a_true_copy_of_gold_is_gold() -> None:
    """When the original goes, its duplicate still supports the answer, reworded or not."""
    for name in ("duplicate", "near_duplicate"):
        after = damage(SCENE, operator(name), 1, "1", WORLD)
        left = after.with_passages([each for each in after.passages if each.id != "granite1"])
        assert support(SCENE, left, evidence(SCENE))


@pytest.mark.parametrize("seed", range(10))
def test_a_near_duplicate_says_the_same_in_other_form(seed: int) -> None:
    """Text and copy differ, the answer stays verbatim, and the detector tells it from a copy."""
    one = replace(SCENE, passages=(GOLD,))
    after = damage(one, operator("near_duplicate"), 1, f"{seed}", WORLD)
    (copy,) = added(after, one)
    assert copy.text != GOLD.text
    assert quoted("1987", copy.text)
    assert list(found(after.passages).values()) == ["near_duplicate"] or " ".join(copy.text.split()) == GOLD.text


@pytest.mark.parametrize("seed", range(10))
def test_the_later_of_two_copies_is_found(seed: int) -> None:
    """Wherever a copy was put, exactly the later one is named."""
    after = damage(SCENE, operator("duplicate"), 0.1, f"{seed}", WORLD)
    (copy,) = added(after)
    original = next(each for each in after.passages if each.id == copy.damage[0].note["id"])
    assert found(after.passages) == {max(copy, original, key=after.passages.index).id: "duplicate"}


def test_overlapping_chunks_are_no_duplicates() -> None:
    """A splitter's overlap of a fifth, and a last chunk that is mostly overlap, are not repetition."""
    words = [f"word{n}" for n in range(300)]
    spans = ((0, 150), (120, 270), (240, 300), (255, 285))
    chunks = [Passage(str(n), " ".join(words[a:b]), {}, "doc") for n, (a, b) in enumerate(spans)]
    assert found(chunks[:3]) == {}
    assert found([chunks[1], chunks[3]]) == {}


def test_a_text_with_other_figures_is_no_duplicate() -> None:
    """It disagrees, which is worse, and is another detector's."""
    other = replace(GOLD, id="x", text=GOLD.text.replace("1987", "1988"))
    assert found([GOLD, other]) == {}
    assert found([GOLD, replace(other, text=GOLD.text.upper())]) == {"x": "near_duplicate"}


def test_scripts_without_blanks_are_compared_by_their_signs() -> None:
    """A copy of a Chinese text with one more sign is found."""
    text = "东京是日本的首都也是世界上人口最多的城市之一每年有许多游客来到这里参观"
    assert found([Passage("a", text), Passage("b", text + "了"), Passage("c", text[::-1])]) == {"b": "near_duplicate"}


def test_shuffling_moves_further_with_severity() -> None:
    """Something always moves, nothing is lost, and moved passages know from where to where."""
    long = replace(SCENE, passages=tuple(WORLD.passages[:20]))

    def distance(severity: float) -> float:
        moves = 0
        for seed in range(20):
            after = damage(long, operator("shuffle"), severity, f"{seed}", WORLD)
            assert sorted(each.id for each in after.passages) == sorted(each.id for each in long.passages)
            moved = [each for each in after.passages if each.damage]
            assert moved
            for each in moved:
                was, now = (int(each.damage[0].note[name]) - 1 for name in ("was", "now"))
                assert long.passages[was].id == after.passages[now].id == each.id
                moves += abs(was - now)
        return moves

    assert distance(0.02) < distance(0.3) < distance(1)


def test_gold_goes_with_its_copies_and_the_list_is_filled_up() -> None:
    """What answers is kept as removed; what was found beyond comes unmarked, then others; nothing gives the answer."""
    hidden = about("looms", 1, "The quarry of Aster did close in 1987.")
    scene = damage(replace(SCENE, passages=(*SCENE.passages, hidden)), operator("duplicate"), 1, "1", WORLD)
    after = damage(scene, operator("gold_removed"), 0.5, "1", WORLD)
    assert {each.id.split("~")[0] for each in after.removed} == {"granite1", "looms1"}
    assert len(after.removed) == 4
    assert len(after.passages) == len(scene.passages)
    assert not any("1987" in each.text for each in after.passages)
    assert [each.id for each in after.passages if each.id == "bread1" and not each.damage] == ["bread1"]
    assert sum(each.has("irrelevant") for each in after.passages) == 3
    assert support(scene, after, evidence(scene)) == ()


def test_nothing_is_removed_where_nothing_is_known_to_answer() -> None:
    """Without gold, the operator has nothing to do."""
    scene = replace(SCENE, gold=frozenset())
    assert damage(scene, operator("gold_removed"), 1, "1", WORLD) is scene


def test_a_big_world_is_sampled() -> None:
    """Of five thousand passages some dozens are looked at."""

    class Counting(list[Passage]):
        asked = 0

        def __getitem__(self, at: object) -> Passage:  # type: ignore[override]
            self.asked += 1
            return super().__getitem__(at)  # type: ignore[index]

        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("the whole world was read")

    world = Counting(WORLD.passages[n % 32] for n in range(5000))
    for name in ("irrelevant_passage", "hard_distractor", "gold_removed"):
        damage(SCENE, operator(name), 0.5, "1", World(world))
    assert 0 < world.asked < 300


@pytest.mark.skipif(not (DATA / "retrievalqa_gpt4.jsonl").exists(), reason="the public data set is not here")
def test_retrieved_sets_repeat_themselves_as_often_as_measured() -> None:
    """Of the passages that a search engine found for 250 questions, between 1 and 6 % repeat an earlier one."""
    lines = (DATA / "retrievalqa_gpt4.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [[each for each in json.loads(line)["context"] if isinstance(each, dict)] for line in lines]
    scenes = [[Passage(str(n), each.get("text", "")) for n, each in enumerate(row)] for row in rows]
    share = sum(len(found(scene)) for scene in scenes) / sum(map(len, scenes))
    assert 0.01 < share < 0.06
