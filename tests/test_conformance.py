"""Which answers show that a server mixes its adapters up, or that one does nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.llms.remote.conformance import Probe, distance, judge

probes = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-5, 0)), max_size=6).map(
    lambda pairs: Probe(tuple(token for token, _ in pairs), tuple(value for _, value in pairs))
)


def said(text: str, logprob: float = -0.5) -> Probe:
    """An answer of words, all as likely."""
    words = tuple(text.split())
    return Probe(words, (logprob,) * len(words))


@given(probes, probes)
def test_distance_is_one(some: Probe, other: Probe) -> None:
    """Zero to itself, the same both ways, never negative."""
    assert distance(some, some) == 0
    assert distance(some, other) == distance(other, some) >= 0


def test_a_good_server_passes() -> None:
    """Everybody answers under load as alone, up to a batch's rounding."""
    alone = {"": [said("a b c")], "x": [said("x y z")], "y": [said("a b d")]}
    together = {
        name: [Probe(one.tokens, tuple(value + 0.02 for value in one.logprobs)) for one in answers] * 3
        for name, answers in alone.items()
    }
    verdict = judge(alone, together)
    assert verdict.ok
    assert verdict.names == ("", "x", "y")
    assert str(verdict) == "the server keeps 3 models apart"


def test_a_base_that_answers_as_an_adapter() -> None:
    """One answer of many is enough; the message says who was answered as whom, and what to do."""
    alone = {"": [said("a b c")], "x": [said("x y z")]}
    verdict = judge(alone, {"": [said("a b c"), said("a b c"), said("x y z")], "x": [said("x y z")] * 3})
    assert verdict.mixed == {"": "x"}
    assert "the base model answered as 'x'" in str(verdict)
    assert "--max-loras" in str(verdict)


def test_log_probs_tell_apart_what_words_do_not() -> None:
    """Two adapters that say the same, one surer than the other."""
    alone = {"": [said("a b")], "x": [said("yes", -0.1)], "y": [said("yes", -0.9)]}
    verdict = judge(alone, {"": [said("a b")], "x": [said("yes", -0.9)], "y": [said("yes", -0.9)]})
    assert verdict.mixed == {"x": "y"}


def test_an_adapter_without_effect() -> None:
    """The same words as the base's and the same log-probs, on every prompt."""
    alone = {"": [said("a b"), said("c")], "x": [said("a b"), said("c")], "y": [said("a b"), said("d")]}
    verdict = judge(alone, alone)
    assert verdict.inactive == ("x",)
    assert "loaded without effect, same answers as the base model's: 'x'" in str(verdict)


def test_another_log_prob_is_an_effect() -> None:
    """An adapter may say what the base says, and mean it more."""
    alone = {"": [said("a b", -0.5)], "x": [said("a b", -0.4)]}
    assert judge(alone, alone).ok


def test_noise_alone_is_no_mix_up() -> None:
    """A greedy answer that flips late under load is still nearest to its own."""
    alone = {"": [said("a b c d e f")], "x": [said("x y z u v w")]}
    assert judge(alone, {"": [said("a b c d e z")], "x": [said("x y z u v f")]}).ok


def test_words_do_where_there_are_no_log_probs() -> None:
    """A server without log-probs is judged by what it says."""
    alone = {"": [Probe(("a",))], "x": [Probe(("x",))]}
    assert judge(alone, alone).ok
    assert judge(alone, {"": [Probe(("x",))], "x": [Probe(("x",))]}).mixed == {"": "x"}
