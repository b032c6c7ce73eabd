"""Asks a server for base and adapters, alone and all at once, and has the answers judged; knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index_hybridmem.branches import Call, run
from llama_index_hybridmem.llms.remote.conformance import Conformance, Probe, judge

PROMPTS = ("Write a short greeting to a customer.", "The capital of France is", "Explain why the sky is blue.")
OPTIONS = {"temperature": 0.0, "max_tokens": 16, "logprobs": True, "top_logprobs": 1, "seed": 0}
"""Greedy, long enough for the answers to be written side by side."""


def check(ask: Callable[[str, str], Probe], names: Sequence[str], prompts: Sequence[str], rounds: int) -> Conformance:
    """Compares answers given one by one with those to requests at the same time.

    Args:
        ask: takes a name ("" for the base model) and a prompt.
        names: the adapters'.
        prompts: asked of each.
        rounds: how often all are asked at once.

    Raises:
        BaseException: what `ask` raises.
    """
    everybody = ["", *names]
    alone = {name: [ask(name, prompt) for prompt in prompts] for name in everybody}
    asked = [(name, prompt) for prompt in [*prompts] * rounds for name in everybody]
    outcomes = run({str(number): Call(_bound(ask, *pair)) for number, pair in enumerate(asked)})
    together: dict[str, list[Probe]] = {name: [] for name in everybody}
    for (name, _), outcome in zip(asked, outcomes.values(), strict=True):
        if outcome.error is not None or outcome.value is None:
            raise outcome.error or AssertionError("an outcome without error has a value")
        together[name].append(outcome.value)
    return judge(alone, together)


def probe_of(response: Any) -> Probe:
    """What a response of the OpenAI API says, as token by token as it tells."""
    choice = response.raw.choices[0]
    logprobs = getattr(choice, "logprobs", None)
    if content := getattr(logprobs, "content", None):
        return Probe(tuple(one.token for one in content), tuple(one.logprob for one in content))
    if tokens := getattr(logprobs, "tokens", None):
        return Probe(tuple(tokens), tuple(value or 0.0 for value in getattr(logprobs, "token_logprobs", None) or ()))
    text = choice.message.content if hasattr(choice, "message") else choice.text
    return Probe(tuple((text or "").split()))


def _bound(ask: Callable[[str, str], Probe], name: str, prompt: str) -> Callable[[], Probe]:
    return lambda: ask(name, prompt)
