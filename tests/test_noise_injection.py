"""Noise injected into scenes: labels follow from what is left, rates are met, the same key gives the same damage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.defaults import default_profile
from llama_index_hybridmem.noise.edits import Edit
from llama_index_hybridmem.noise.fitting import fitted
from llama_index_hybridmem.noise.injection import inject
from llama_index_hybridmem.noise.kinds import FALSE_KINDS, KINDS
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.operators import catalog
from llama_index_hybridmem.noise.operators.registry import mark
from llama_index_hybridmem.noise.profile import KindRate, Profile
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import evidence, may_be_read, quoted, support

TEXTS = {
    "founding": "Aldgate Cells was founded in 1987 in Norwich by Mira Voss. The company makes ferroelectric memory "
    "for meters. Its first plant opened two years later, and a second followed in Leeds.",
    "product": "The AC-40 chip keeps its content for 15 years at 85 degrees. Engineers chose it because it writes in "
    "120 ns and draws little current. It replaced an older part with a battery.",
    "people": "Mira Voss studied physics before she led the firm. She gave the chair to Tomas Lind in 2004. Both still "
    "hold patents on thin films, and neither sits on the board any more.",
    "market": "Meters and rail cards are the main buyers. Sales grew by 12% a year until 2019, when a large customer "
    "left. The firm answered with a cheaper line and longer contracts.",
    "factory": "The plant in Leeds runs three shifts. It makes 4,000 wafers a month and plans 5,500. A fire in spring "
    "closed one hall for six weeks, which cost about 3 million pounds.",
}
ELSEWHERE = tuple(
    Passage(
        f"far-{n}", f"Bridge number {n} in the valley carries goods trains over the river and needs paint.", {}, "x"
    )
    for n in range(20)
)
WORLD = World(ELSEWHERE)
DATA = Path(os.environ.get("HYBRIDMEM_DATA", Path(__file__).parents[2] / "shared" / "data"))
NOISERBENCH = DATA / "noise" / "noiserbench_bamboogle.json"
EVERYTHING = Profile({kind: KindRate(0.25, 0.2, 0.3) for kind in KINDS})


def scene(gold: bool = True) -> Scene:
    """Five passages of one company, the first of which says when it was founded."""
    passages = tuple(
        Passage(name, text, {"title": "Aldgate Cells", "date": "2021-03-04"}, f"doc-{name}", 0.9 - 0.1 * n)
        for n, (name, text) in enumerate(TEXTS.items())
    )
    near = (
        Passage("near", "Aldgate Tools was founded in 1912 in York by Ann Hurst.", {"title": "Aldgate Tools"}, "t"),
    )
    known = Scene("In which year was Aldgate Cells founded?", passages, near, frozenset({"founding"}), "1987")
    return known if gold else replace(known, gold=frozenset(), answer=None)


@pytest.mark.parametrize("want", [None, "answerable", "unanswerable"])
@given(key=st.text(max_size=8))
def test_a_label_tells_the_truth(want: str | None, key: str) -> None:
    """Answerable: the answer stands in a gold passage that says nothing false. Else it stands nowhere at all."""
    done = inject(scene(), Mix.of(EVERYTHING), key, WORLD, want)
    texts = {each.id: each for each in done.scene.passages}
    if done.answerable:
        assert done.support
        for id_, words in done.support:
            assert words in texts[id_].text
            assert not texts[id_].has(*FALSE_KINDS)
    else:
        assert done.support == ()
        assert all(quoted("1987", each.text) is None for each in done.scene.passages)
    if want is not None:
        assert done.answerable is (want == "answerable")


@given(key=st.text(max_size=8))
def test_no_false_copy_without_the_truth(key: str) -> None:
    """Where the answer has gone, no stale, conflicting or fictitious version of a gold passage is left in its place."""
    done = inject(scene(), Mix.of(EVERYTHING), key, WORLD)
    if not done.answerable:
        copies = [each for each in done.scene.passages if each.has(*FALSE_KINDS)]
        assert all(each.note.get("id") != "founding" for copy in copies for each in copy.damage)


@given(key=st.text(max_size=8))
def test_the_same_key_gives_the_same_damage(key: str) -> None:
    """The key alone decides, and the scene that was handed in stays as it was."""
    before = scene()
    first = inject(before, Mix.of(EVERYTHING), key, WORLD)
    assert before == scene()
    assert inject(scene(), Mix.of(EVERYTHING), key, WORLD) == first


@given(key=st.text(max_size=8))
def test_a_scene_keeps_its_length(key: str) -> None:
    """What is added takes places at the end; only gold passages, and what was added itself, are not pushed out."""
    done = inject(scene(), Mix.of(EVERYTHING).without(["gold_removed"]), key, WORLD, "answerable")
    added = [each for each in done.scene.passages if each.id not in TEXTS]
    assert len(done.scene.passages) <= max(5, 1 + len(added))
    assert "founding" in {each.id for each in done.scene.passages}


def test_without_gold_no_label_is_given() -> None:
    """Live, nobody knows the answer: the damage is made all the same, and answerable stays None."""
    done = [inject(scene(gold=False), Mix.of(EVERYTHING), str(n), WORLD) for n in range(30)]
    assert {each.answerable for each in done} == {None}
    assert sum(each.scene != scene(gold=False) for each in done) > 20


def test_a_question_without_gold_in_what_was_retrieved_is_unanswerable() -> None:
    """The answer is known, but the retriever found nothing that holds it: a real failure, labelled as one."""
    lost = replace(scene(), gold=frozenset(), passages=scene().passages[1:])
    assert inject(lost, Mix.of(EVERYTHING), "k", WORLD).answerable is False


def test_rates_are_met() -> None:
    """Over many scenes each kind occurs about as often as the mix says."""
    mix = Mix.at({"truncate_tail": 0.3, "ocr": 0.1, "hard_distractor": 0.15, "gold_removed": 0.2}, severity=0.3)
    done = [inject(scene(), mix, str(n), WORLD) for n in range(600)]
    seen = Counter(kind for each in done for p in each.scene.passages for kind in {d.kind for d in p.damage})
    passages = sum(len(each.scene.passages) for each in done)
    assert seen["truncation"] / passages == pytest.approx(0.3, abs=0.05)
    assert seen["ocr"] / passages == pytest.approx(0.1, abs=0.03)
    removed = sum(any(d.kind == "gold_removed" for p in each.scene.removed for d in p.damage) for each in done)
    assert removed / 600 > 0.15  # more where a cut took the answer with it


def test_kinds_that_come_together_come_together() -> None:
    """A correlation in the profile is one in the passages."""
    kinds = {kind: KindRate(0.3, 0.3, 0.3) for kind in ("truncation", "ocr")}
    texts = tuple(Passage(f"p{n}", TEXTS["market"], {}, f"d{n}") for n in range(5))

    def phi(profile: Profile) -> float:
        mix = Mix.of(profile, operators=["truncate_tail", "ocr"])
        passages = [each for n in range(300) for each in inject(Scene("Who buys?", texts), mix, str(n)).scene.passages]
        both = sum(each.has("ocr") and each.has("truncation") for each in passages) / len(passages)
        shares = [sum(each.has(kind) for each in passages) / len(passages) for kind in ("ocr", "truncation")]
        return (both - shares[0] * shares[1]) / (shares[0] * (1 - shares[0]) * shares[1] * (1 - shares[1])) ** 0.5

    assert abs(phi(Profile(kinds))) < 0.1
    assert phi(Profile(kinds, {"ocr|truncation": 0.6})) == pytest.approx(0.6, abs=0.12)


def test_another_processors_library_draws_the_same() -> None:
    """Eigenvectors differ in sign between processors; what is drawn from correlations must not."""
    code = (
        "from llama_index_hybridmem.noise.mix import Mix; from llama_index_hybridmem.noise.profile import *;"
        "kinds = {k: KindRate(.3, .3, .3) for k in ('truncation', 'ocr', 'html', 'layout', 'encoding')};"
        "pairs = {'ocr|truncation': .5, 'html|ocr': .2, 'layout|ocr': -.3, 'encoding|html': .9, 'encoding|ocr': -.8};"
        "print(Mix.of(Profile(kinds, pairs)).factor)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "OPENBLAS_CORETYPE": core}, capture_output=True)
        for core in ("Haswell", "Nehalem")
    ]
    assert runs[0].stdout.startswith(b"((")
    assert runs[0].stdout == runs[1].stdout


def test_a_gold_passage_is_never_made_to_lie() -> None:
    """A false value in the only support would make a label that no reader could explain."""
    mix = Mix.at({"counterfactual": 1.0}, severity=1.0)
    for n in range(20):
        done = inject(scene(), mix, str(n), WORLD)
        assert done.answerable
        gold = next(each for each in done.scene.passages if each.id == "founding")
        assert gold.text == TEXTS["founding"]


def test_a_cut_before_the_answer_is_relabelled() -> None:
    """What matters is whether the answer can still be read, not whether its passage is still there."""
    mix = Mix.at({"truncate_head": 1.0}, severity=1.0)
    labels = Counter(inject(scene(), mix, str(n), WORLD).answerable for n in range(40))
    assert labels[False] > 30
    assert inject(scene(), mix, "k", WORLD, "answerable").answerable


def test_evidence_is_the_answer_or_else_the_closest_sentence() -> None:
    """An answer in the source's words must stand there; one in others is held to the sentence that it comes from."""
    assert evidence(scene()) == ("1987",)
    free = replace(scene(), answer="It has existed since the late eighties, founded in Norwich")
    assert evidence(free) == ("Aldgate Cells was founded in 1987 in Norwich by Mira Voss.",)
    quoted_one = replace(free, quotes=("founded in 1987",))
    assert evidence(quoted_one) == ("founded in 1987",)
    assert evidence(replace(scene(), gold=frozenset())) == ()


def test_support_needs_to_know_whom_it_speaks_of() -> None:
    """An answer whose sentence no longer names its subject supports nothing."""
    before = scene()
    text = before.passages[0].text
    cut = [Edit(0, text.index("1987"), "… "), Edit(text.index(" in Norwich"), len(text), ".")]
    beheaded = mark(before.passages[0], "truncate_chunk", 1.0, "k", edits=cut, metadata={"title": None})
    after = before.with_passages([beheaded, *before.passages[1:]])
    assert support(before, before, ("1987",)) == (("founding", "1987"),)
    assert support(before, after, ("1987",)) == ()


def test_fitting_adds_only_what_is_missing() -> None:
    """Passages that are cut already are cut no more than the profile asks for; what rarely applies is tried oftener."""
    profile = Profile({"truncation": KindRate(0.4, 0.4, 0.4), "html": KindRate(0.3, 0.3, 0.3)})
    natural = Profile({"truncation": KindRate(0.25, 0.2, 0.3), "html": KindRate(0.5, 0.4, 0.6)})
    fit = fitted(Mix.of(profile), natural, [scene()] * 20, WORLD)
    assert fit.mix.recipes["truncation"].rate == pytest.approx(0.15 / 0.75 / fit.applicable["truncation"])
    assert "html" not in fit.mix.recipes
    plain = [Scene("q", (Passage("a", "No table here."), Passage("b", "| a | b |\n| --- | --- |\n| 1 | 2 |\n")))] * 20
    rare = fitted(Mix.of(Profile({"markdown": KindRate(0.2, 0.2, 0.2)})), Profile({}), plain)
    assert rare.applicable["markdown"] == pytest.approx(0.5)
    assert rare.mix.recipes["markdown"].rate == pytest.approx(0.4)


def test_a_measured_profile_is_completed() -> None:
    """Kinds that nobody could measure come from another profile; those that were measured stay, also at 0."""
    measured = Profile({"ocr": KindRate(0.0, 0.0, 0.01)}, source="here")
    whole = measured.completed(default_profile())
    assert whole.kinds["ocr"] == measured.kinds["ocr"]
    assert whole.kinds["distractor"] == default_profile().kinds["distractor"]
    assert whole.source.startswith("here; from another profile: truncation, ")
    assert whole.completed(default_profile()) == whole


def test_what_a_mix_refuses() -> None:
    """Unknown names and figures out of range are named."""
    with pytest.raises(ConfigurationError, match="no noise operator 'smudge'"):
        Mix.at({"smudge": 0.1})
    with pytest.raises(ConfigurationError, match="ocr: a rate is a chance"):
        Mix.at({"ocr": 1.5})
    with pytest.raises(ConfigurationError, match="severity lies between"):
        Mix.at({"ocr": 0.5}, severity=2)
    with pytest.raises(ConfigurationError, match="'smudge' is no kind of noise"):
        Mix.of(EVERYTHING, without=["smudge"])
    with pytest.raises(ConfigurationError, match="ocr makes ocr noise, not html"):
        Mix.of(Profile({"html": KindRate(0.1, 0, 1, operators={"ocr": 1.0})}))


@given(seed=st.integers())
def test_every_operator_of_a_kind_has_its_turn(seed: int) -> None:
    """The order in which operators are tried holds each of them once, the likeliest first most often."""
    recipe = Mix.of(EVERYTHING).recipes["markdown"]
    names = [each.name for each in recipe.draw_operators(Random(seed))]
    assert sorted(names) == [each.name for each in catalog.operators("markdown")]


@pytest.mark.parametrize("name", [each.name for each in catalog.operators()])
def test_an_operator_says_what_its_severity_means(name: str) -> None:
    """In the one line that `hybridmem noise kinds` shows."""
    assert "severity" in catalog.operator(name).about


def test_the_docs_name_every_operator() -> None:
    """In the table of docs/noise.md, and none that is not there."""
    text = (Path(__file__).parents[1] / "docs" / "noise.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`([a-z_]+)`", line.split("|")[2])}
    assert named == {each.name for each in catalog.operators()}


@pytest.mark.skipif(not NOISERBENCH.exists(), reason="the public data set is not here")
def test_noise_that_others_made_answers_nothing() -> None:
    """NoiserBench: among its related passages and nonsense the gold text supports; without it nobody tells."""
    rows = json.loads(NOISERBENCH.read_text(encoding="utf-8"))
    held = 0
    for row in rows:
        texts = [each["text"] for name in ("supportive noise", "illegal sentence noise") for each in row[name][:2]]
        gold = Passage("gold", row["gold_text"])
        passages = (*(Passage(f"p{n}", text) for n, text in enumerate(texts)), gold)
        known = Scene(row["question"], passages, gold=frozenset({"gold"}), answer=row["gold_answers"][0])
        kept = inject(known, Mix({}), "k", WORLD)
        assert kept.answerable
        assert {id_ for id_, _ in kept.support} == {"gold"}
        held += evidence(known) == (known.answer,)
        gone = inject(known, Mix({}), "k", WORLD, "unanswerable")
        assert gone.answerable is False
        assert all(quoted(known.answer or "", each.text) is None for each in gone.scene.passages)
    assert held / len(rows) > 0.8  # most gold texts state the answer word for word


@pytest.mark.parametrize("name", ["ocr", "whitespace", "hyphenation", "html_residue"])
def test_a_garbled_answer_is_no_reason_to_abstain(name: str) -> None:
    """Such damage takes nothing away: where it hits the answer ("1 987"), the gold passage is given back whole."""
    mix = Mix.at({name: 1.0}, severity=1.0)
    done = [inject(scene(), mix, str(n), WORLD) for n in range(40)]
    assert all(each.answerable and each.support for each in done)
    assert any(each.scene.passages[1].damage for each in done)


@pytest.mark.parametrize("want", [None, "unanswerable"])
def test_who_abstains_sees_no_half_of_the_answer(want: str | None) -> None:
    """Neither cut in two nor garbled, and no gold passage that only lacks whom it speaks of."""
    mix = Mix.at({"truncate_tail": 0.7, "truncate_head": 0.7, "ocr": 0.7}, severity=0.8)
    done = [inject(scene(), mix, str(n), WORLD, want) for n in range(150)]
    lost = [each.scene for each in done if not each.answerable]
    assert lost
    assert not any(may_be_read(each, ("1987",)) for each in lost)


def test_what_tells_a_false_copy_from_the_truth_stays() -> None:
    """Its metadata, and the passage that it was copied from, which nothing that is added pushes out."""
    mix = Mix.at({"stale_version": 0.4, "conflicting_source": 0.4, "hard_distractor": 0.8, "metadata_missing": 1.0})
    copies = 0
    for n in range(40):
        done = inject(scene(), mix, str(n), WORLD, "answerable").scene
        there = {each.id: each for each in done.passages}
        for copy in done.passages:
            if copy.has("stale", "conflict"):
                copies += 1
                original = there[copy.damage[0].note["id"]]
                assert copy.damage[0].note["cue"].split(": ")[-1] in copy.metadata.values()
                assert not copy.has("metadata")
                assert not original.has("metadata")
    assert copies > 40


def test_the_other_passages_that_an_answer_needs_are_needed() -> None:
    """A quote from a gold passage without the answer is evidence, too; both are found, or there is no support."""
    hops = replace(
        scene(),
        question="Who led the maker of the AC-40 in 1990?",
        gold=frozenset({"product", "people"}),
        answer="Mira Voss",
        quotes=("it writes in 120 ns",),
    )
    needed = evidence(hops)
    assert needed == ("Mira Voss", "it writes in 120 ns")
    assert [id_ for id_, _ in support(hops, hops, needed)] == ["people", "product"]
    assert support(hops, hops.with_passages(hops.passages[2:]), needed) == ()


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        ("two.", "He scored two of them.", "two"),
        ("two.", "He scored two.", "two."),
        ("“Fast Car”", 'It was "Fast Car" again.', "Fast Car"),
        ("the firm's", "It is the firm’s own.", "the firm’s"),
        ("2001-02", "In 2001–02 it was new.", "2001–02"),
        ("two", "the network", None),
        ("...", "It ends ...", "..."),
    ],
)
def test_marks_at_the_edges_of_an_answer_do_not_count(words: str, text: str, found: str | None) -> None:
    """A full stop, quotation marks, the form of apostrophes and hyphens; the words as they stand come back."""
    assert quoted(words, text) == found
