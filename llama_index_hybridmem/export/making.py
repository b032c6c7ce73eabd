"""One draft becomes one record, labelled by what the damage left of its answer; pure, knows no file and no format."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random

from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft, Quote, Record, Split
from llama_index_hybridmem.noise.injection import Injected, Want, inject
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.operators.registry import mark
from llama_index_hybridmem.noise.scene import Passage, Scene, World, in_place
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.noise.values import MONTH, SHORT
from llama_index_hybridmem.terms import content_stems

ANSWER_UNKNOWN = "its answer is not known, and its gold passages stayed"
STRADDLES = "the documents that answer it fall into several splits"
SURPLUS = "retrieved without an answer, beyond abstain_share"
TOLD_ELSEWHERE = "a passage that is not gold may hold the answer"
SHARED = 0.5
"""Share of the question's words around an answer's words from which on a passage is taken to answer. Our judgement:
below it, a year or a common name stands there by chance."""
DOUBTFUL = 0.25
"""The same share from which on a passage can no longer be taken not to answer; in between nobody can tell. `SHARED`
where the answer's words stand apart."""
_BEFORE = re.compile(r".*(?:[.!?][\"'”’)\]]*\s+|[。！？]|\n)", re.DOTALL)
_BEHIND = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)|[。！？]|(?=\n)|\Z")
_FIGURE, _MONTH, _COMMA = re.compile("[0-9]{1,12}"), re.compile(MONTH), re.compile("(?<=[0-9]),(?=[0-9]{3})")
_LONGEST_QUOTE = 400


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A draft that becomes no record.

    Attributes:
        reason: why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Chances:
    """How the share of records that abstain is reached.

    Attributes:
        stays: chance that a question which is answered stays so; None: as the noise has it.
        kept: chance that a question which was retrieved without an answer becomes a record.
    """

    stays: float | None = None
    kept: float = 1.0

    @classmethod
    def of(cls, options: ExportOptions, answered: int, unanswered: int) -> Chances:
        """Work them out.

        Args:
            options: ``p_gold`` and ``abstain_share`` are used.
            answered: drafts with a passage that answers.
            unanswered: the others.
        """
        share = options.abstain_share
        if share is None:
            return cls(options.p_gold)
        wanted = share * (answered + unanswered)
        if unanswered <= wanted:
            return cls(1 - (wanted - unanswered) / answered if answered else 1.0)
        return cls(1.0, share * answered / ((1 - share) * unanswered))


def make_record(
    draft: Draft,
    options: ExportOptions,
    mix: Mix,
    world: World,
    split: Split | None = "train",
    chances: Chances | None = None,
) -> Record | LeftOut:
    """Damage what was retrieved for a question, and say what the model shall answer then.

    Args:
        draft: the question; where none of its passages is gold, none answers.
        options: of the export; the same ones with the same draft, mix and world give the same record.
        mix: which noise, and how often.
        world: what operators draw from.
        split: the part of the set that it belongs to, see `splitting.split_of`.
        chances: of staying answerable; None: as ``options.p_gold`` has it.

    Returns:
        the record: with the draft's answer where the damaged passages support it, else with words of abstention. Or
        why there is none.
    """
    if split is None:
        return LeftOut(STRADDLES)
    chances, seed = chances or Chances(options.p_gold), f"{options.seed}:{draft.id}"
    clean = draft.scene.passages[: options.top_k]
    answered = any(each.id in draft.scene.gold for each in clean)
    lot = Random(f"{seed}:want").random() if chances != Chances() else 0.0
    if not answered and lot >= chances.kept:
        return LeftOut(SURPLUS)
    want: Want | None = None
    if answered and chances.stays is not None:
        want = "answerable" if lot < chances.stays else "unanswerable"
    injected = inject(_prompted(draft.scene, options, seed), mix, seed, world, want)
    answerable = _label(draft.scene, injected, answered)
    if isinstance(answerable, LeftOut):
        return answerable
    expected = draft.scene.answer
    return Record(
        id=draft.id,
        question=draft.scene.question,
        answer=expected if answerable and expected is not None else options.wording.abstention(seed),
        expected=expected,
        answerable=answerable,
        clean=clean,
        noisy=injected.scene.passages,
        removed=injected.scene.removed,
        gold=frozenset(each.id for each in clean if each.id in draft.scene.gold),
        quotes=quotes(draft.scene, injected) if answerable else (),
        seed=seed,
        profile=options.profile,
        versions=draft.versions,
        split=split,
        origin=draft.origin,
        domain=draft.domain,
        asked=draft.asked,
        given=draft.scene.quotes,
    )


def tells(asked: Collection[str], answer: str, passage: Passage) -> bool:
    """Whether a passage seems to answer a question.

    Args:
        asked: the question's words (`terms.content_stems`), without those of the answer.
        answer: must stand in it as whole words, whatever its case and blanks.
        passage: the passage.

    Returns:
        whether `SHARED` of the question's words stand around the answer or in the passage's title, and all of its
        figures in the passage: another day's meeting is another one.
    """
    found = quoted(answer, passage.text)
    if found is None or not asked:
        return found is not None
    at = _place(passage.text, found)
    around = passage.text[max(0, at - _LONGEST_QUOTE) : at + len(found) + _LONGEST_QUOTE]
    there = set(asked) & set(content_stems(f"{passage.title} {around}"))
    enough = len(there) >= SHARED * len(set(asked))
    return enough and _figures(" ".join(asked)) <= _figures(f"{passage.title} {passage.text}")


def may_tell(asked: Collection[str], answer: str, passage: Passage) -> bool:
    """Whether it cannot be ruled out that a passage answers a question: the answer's words stand there, or apart.

    Args:
        asked: see `tells`.
        answer: its words.
        passage: the passage.
    """
    there, wanted = set(content_stems(f"{passage.title} {passage.text}")), set(content_stems(answer))
    if quoted(answer, passage.text) is not None:
        return len(there & set(asked)) >= DOUBTFUL * len(set(asked))
    return bool(wanted) and wanted <= there and len(there & set(asked)) >= SHARED * len(set(asked))


def asked_words(question: str, answer: str) -> frozenset[str]:
    """The question's words that an answering passage shares."""
    return frozenset(content_stems(question)) - frozenset(content_stems(answer))


def quotes(scene: Scene, injected: Injected) -> tuple[Quote, ...]:
    """What to quote for an answer: the draft's own quotes where they stand, else the sentence around the support.

    Args:
        scene: as retrieved.
        injected: the damaged scene with its support.

    Returns:
        each with the passage that holds it verbatim, as it was damaged.
    """
    held = {each.id: each for each in injected.scene.passages}
    chosen = []
    for id_, words in injected.support:
        passage = held[id_]
        own = (found for quote in scene.quotes if (found := quoted(quote, passage.text)) is not None)
        chosen.append(Quote(id_, next((each for each in own if quoted(words, each)), "") or _sentence(passage, words)))
    return tuple(dict.fromkeys(chosen))


def _prompted(scene: Scene, options: ExportOptions, seed: str) -> Scene:
    """The passages that the prompt gets, hard distractors among them."""
    passages, near = list(scene.passages[: options.top_k]), (*scene.passages[options.top_k :], *scene.near)
    added = [each for each in near if each.id not in scene.gold][: options.distractors]
    if added:
        draw, share = Random(f"{seed}:distractors"), min(1.0, len(added) / max(len(passages), 1))
        for each in added:
            marked = mark(each, "hard_distractor", share, f"{seed}/distractors")
            passages.insert(draw.randint(0, len(passages)), marked)
        passages = in_place(passages, scene.passages[: options.top_k])
        taken = {each.id for each in added}
        near = tuple(each for each in near if each.id not in taken)
    return replace(scene, passages=tuple(passages), near=near)


def _label(scene: Scene, injected: Injected, answered: bool) -> bool | LeftOut:
    after = injected.scene.passages
    if answered and scene.answer is not None:
        return injected.answerable is True
    if answered:
        return LeftOut(ANSWER_UNKNOWN) if any(map(injected.scene.is_gold, after)) else False
    return LeftOut(TOLD_ELSEWHERE) if _told(scene, after) else False


def _told(scene: Scene, passages: Sequence[Passage]) -> bool:
    if scene.answer is None:
        return False
    asked = asked_words(scene.question, scene.answer)
    return any(may_tell(asked, scene.answer, each) for each in passages)


def _figures(text: str) -> set[int]:
    """Whole numbers of a text, those of its months too: 2022/05/07 and May 7th, 2022 have the same."""
    months = (SHORT.index(each[:3]) + 1 for each in _MONTH.findall(text))
    return {*(int(each) for each in _FIGURE.findall(_COMMA.sub("", text))), *months}


def _sentence(passage: Passage, words: str) -> str:
    """The sentence around words of a passage; the words alone where it is damaged, or endless."""
    text, start = passage.text, _place(passage.text, words)
    before = _BEFORE.match(text, max(0, start - _LONGEST_QUOTE), start)
    first = before.end() if before else max(0, start - _LONGEST_QUOTE)
    behind = _BEHIND.search(text, start + len(words), start + len(words) + _LONGEST_QUOTE)
    last = behind.end() if behind else start + len(words)
    cut = first > 0 and before is None
    broken = any(
        a < last and b > first or a == b and first < a < last for each in passage.damage for a, b in each.spans
    )
    return words if cut or broken or behind is None else text[first:last].strip()


def _place(text: str, words: str) -> int:
    """Where words begin that `quoted` has found: not inside of another word."""
    at = text.find(words)
    while at > 0 and (text[at - 1].isalnum() or text[at + len(words) : at + len(words) + 1].isalnum()):
        following = text.find(words, at + 1)
        if following < 0:
            break
        at = following
    return at
