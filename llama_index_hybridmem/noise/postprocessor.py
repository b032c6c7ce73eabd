"""Damages what a retriever returns, behind any retriever of LlamaIndex; decides nothing about which noise there is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.events import NoiseInjectedEvent
from llama_index_hybridmem.noise.injection import Injected, inject
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.passages import NOISE_KEY, is_text, to_node, to_passage, to_passages
from llama_index_hybridmem.noise.profile import Profile
from llama_index_hybridmem.noise.scene import Passage, Scene, World, digest

dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True)
class Gold:
    """What is known about the right answer to a question.

    Attributes:
        nodes: ids of the nodes that answer.
        answer: the answer; None when unknown.
        quotes: what in them supports it, verbatim; needed only for answers that no gold node states word for word.
    """

    nodes: frozenset[str]
    answer: str | None = None
    quotes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take any collection of texts; refuse what would be read letter by letter, or not at all."""
        for name, kind in (("nodes", frozenset), ("quotes", tuple)):
            texts = getattr(self, name)
            is_list = isinstance(texts, Collection) and not isinstance(texts, str)
            if not is_list or not all(isinstance(each, str) for each in texts):
                raise ConfigurationError(f"Gold, {name}: a collection of texts is expected, not {texts!r:.60}")
            object.__setattr__(self, name, kind(texts))
        if self.answer is not None and not isinstance(self.answer, str):
            raise ConfigurationError(f"Gold, answer: a text or None is expected, not {self.answer!r:.60}")


GoldOf = Callable[[str], "Gold | None"]


class NoiseInjectionPostprocessor(BaseNodePostprocessor):
    """Breaks retrieved nodes on purpose, the way that retrieval breaks them in production.

    In ``"stress"`` mode an app answers live on damaged context: does it still, and does it say so when it cannot? In
    ``"export"`` mode, where gold nodes are known, no question loses its only support without being relabelled: every
    node then says whether the question can still be answered. The caller's nodes are never changed; those that come
    back are copies where something was done, and carry in ``metadata["hybridmem_noise"]`` what: operator, kind,
    severity, spans, seed, the original's hash. The same query over the same nodes is damaged in the same way, in any
    thread, task or process.

    Args:
        profile: which noise, how often and how badly; as measured (`Profile.from_traces`) or the default.
        rates: instead of a profile: kinds or operators to their chance, 0 to 1.
        severity: of ``rates``, 0 to 1; None: drawn evenly.
        strength: multiplies the profile's rates.
        mode: "stress" or "export".
        seed: another one damages the same query in another way.
        gold: question to what is known about its answer: a mapping, or a function; needed for "export".
        want: what shall come of a question with known gold: "answerable", "unanswerable", or None: as it falls.
        pool: nodes of the same corpus, for passages about something else; without any, such noise cannot be made.
        translate: (text, language code) to a translation, for noise in another language.
        write: a prompt to a text, for fictitious passages written by a language model.
        on_injected: called with the scene before and after, on the thread that does the damage.

    Raises:
        ConfigurationError: neither or both of ``profile`` and ``rates``, a value out of range, "export" without gold.
    """

    profile: Profile | None = Field(default=None, description="Which noise, how often and how badly.")
    rates: dict[str, float] | None = Field(default=None, description="Kinds or operators to their chance.")
    severity: float | None = Field(default=None, description="Of the rates, 0 to 1; None: drawn evenly.")
    strength: float = Field(default=1.0, description="Multiplies the profile's rates.")
    mode: Literal["stress", "export"] = Field(default="stress", description="Live robustness, or training data.")
    seed: int = Field(default=0, description="Of all random numbers.")
    gold: Any = Field(default=None, exclude=True, description="Question to Gold: a mapping or a function.")
    want: Literal["answerable", "unanswerable"] | None = Field(default=None, description="What shall come of it.")
    pool: Sequence[BaseNode] = Field(default=(), exclude=True, description="Nodes of the same corpus.")
    translate: Callable[[str, str], str] | None = Field(default=None, exclude=True)
    write: Callable[[str], str] | None = Field(default=None, exclude=True)
    on_injected: Callable[[Scene, Injected], None] | None = Field(default=None, exclude=True)
    _mix: Mix = PrivateAttr()
    _world: World = PrivateAttr()

    def __init__(self, profile: Profile | None = None, **fields: Any) -> None:
        super().__init__(**{"profile": profile, **fields})
        # Not in a validator of pydantic's: that would wrap our errors in one of its own.
        if (self.profile is None) == (self.rates is None):
            given = "neither was given" if self.profile is None else "both were given"
            raise ConfigurationError(
                f"NoiseInjectionPostprocessor needs a profile (NoiseProfile.default(), …) or rates; {given}"
            )
        if self.rates is None and self.severity is not None:
            raise ConfigurationError("NoiseInjectionPostprocessor: severity goes with rates; a profile has its own")
        if self.profile is None and self.strength != 1:
            raise ConfigurationError("NoiseInjectionPostprocessor: strength goes with a profile; change the rates")
        if self.mode == "export" and self.gold is None:
            raise ConfigurationError('mode="export" needs gold: question to Gold(nodes, answer); else labels would lie')
        if self.gold is not None and not (callable(self.gold) or isinstance(self.gold, Mapping)):
            raise ConfigurationError(f"gold is a mapping or a function of a question to Gold, not {self.gold!r:.60}")
        if self.profile is not None:
            self._mix = Mix.of(self.profile, strength=self.strength)
        else:
            self._mix = Mix.at(self.rates or {}, self.severity)
        pool = tuple(to_passage(node) for node in self.pool)
        self._world = World(pool, _texts("translate", self.translate), _texts("write", self.write))

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "NoiseInjectionPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        question = query_bundle.query_str if query_bundle is not None else ""
        gold = self._gold(question)
        texts = [each for each in nodes if is_text(each.node)]
        passages = to_passages(texts)
        scene = _scene(question, passages, gold)
        done = inject(scene, self._mix, _key(self.seed, question, passages), self._world, self.want)
        kinds: list[str] = sorted({damage.kind for each in _all(done.scene) for damage in each.damage})
        dispatcher.event(NoiseInjectedEvent(mode=self.mode, kinds=kinds, answerable=done.answerable))
        if self.on_injected is not None:
            self.on_injected(scene, done)
        found = self._nodes(done, dict(zip((p.id for p in passages), texts, strict=True)))
        for rank, each in enumerate(nodes):
            if not is_text(each.node):
                found.insert(rank, each)  # images and the like keep their places
        return found

    def _gold(self, question: str) -> Gold | None:
        if self.gold is None:
            return None
        known: Gold | None = self.gold(question) if callable(self.gold) else self.gold.get(question)
        if known is not None and not isinstance(known, Gold):
            raise ConfigurationError(f"gold of {question!r:.60}: a Gold or None is expected, not {known!r:.60}")
        if known is None and self.mode == "export":
            raise ConfigurationError(f'mode="export": nothing is known about the answer to {question!r:.80}')
        return known

    def _nodes(self, done: Injected, originals: Mapping[str, NodeWithScore]) -> list[NodeWithScore]:
        found = []
        for each in done.scene.passages:
            original = originals.get(each.id)
            if not each.damage and original is not None and self.mode == "stress":
                found.append(original)
                continue
            node = to_node(each, original if original is not None else originals.get(_copied(each)))
            note: dict[str, Any] = {
                "mode": self.mode,
                "original": digest(each),
                "damage": [damage.to_json() for damage in each.damage],
            }
            if self.mode == "export":
                note |= {"answerable": done.answerable, "support": [list(pair) for pair in done.support]}
            node.node.metadata[NOISE_KEY] = note
            for hidden in (node.node.excluded_llm_metadata_keys, node.node.excluded_embed_metadata_keys):
                if NOISE_KEY not in hidden:
                    hidden.append(NOISE_KEY)
            found.append(node)
        return found


def _scene(question: str, passages: tuple[Passage, ...], gold: Gold | None) -> Scene:
    if gold is None:
        return Scene(question, passages)
    return Scene(question, passages, gold=gold.nodes, answer=gold.answer, quotes=gold.quotes)


def _key(seed: int, question: str, passages: Iterable[Passage]) -> str:
    """What random numbers are drawn from: without half characters, which `random.Random` refuses."""
    key = f"{seed}:{question}:{','.join(each.id for each in passages)}"
    return key.encode("utf-8", "backslashreplace").decode("utf-8")


def _texts(name: str, asked: Callable[..., str] | None) -> Callable[..., str] | None:
    """A function that gives texts, and nothing else: a language model may give None, or half a character."""
    if asked is None:
        return None

    def checked(*given: str) -> str:
        text = asked(*given)
        if not isinstance(text, str):
            raise ConfigurationError(f"{name} of a NoiseInjectionPostprocessor gives a text, not {text!r:.60}")
        return text.encode("utf-8", "replace").decode("utf-8")

    return checked


def _all(scene: Scene) -> Iterable[Passage]:
    return (*scene.passages, *scene.removed)


def _copied(passage: Passage) -> str:
    """Id of the passage that one is a copy of; "" for one that is none."""
    return next((each.note["id"] for each in passage.damage if "id" in each.note), "")
