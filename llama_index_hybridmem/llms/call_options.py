"""Keyword arguments of one call, an adapter's defaults and a model's own settings as `Options`; knows no model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.request import Options

_NAMES = [option.name for option in fields(Options)]
_OTHER_NAMES = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "logits_processor": "processors",
}
_ALSO_READ = ["do_sample", "logprobs"]
_SEEDS = 1 << 31


def options_of(call: Mapping[str, Any], *defaults: Mapping[str, Any]) -> Options:
    """Put together how one answer is written.

    Args:
        call: keyword arguments of the call, by our names or by those of OpenAI and transformers (``max_tokens``,
            ``do_sample``, ``logprobs``, ``logits_processor``); None means "not said".
        *defaults: what holds where the call says nothing, the most important first.

    Raises:
        ConfigurationError: a name that we do not know, or a value that cannot be.
    """
    chosen: dict[str, Any] = {}
    for layer in (call, *defaults):
        for name, value in _plain(layer).items():
            chosen.setdefault(name, value)
    chosen.setdefault("seed", random.SystemRandom().randrange(_SEEDS))
    chosen["stop"] = tuple(_listed(chosen.get("stop", ())))
    chosen["stop_ids"] = frozenset(chosen.get("stop_ids", ()))
    chosen["processors"] = tuple(_listed(chosen.get("processors", ())))
    options = Options(**chosen)
    _check(options)
    return options


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings under our names, those not said left out."""
    said = {_OTHER_NAMES.get(name, name): value for name, value in given.items() if value is not None}
    if said.pop("do_sample", True) is False:
        said["temperature"] = 0.0
    wanted = said.pop("logprobs", None)  # True, or the number of likeliest tokens as of old completion APIs
    if wanted is not None and wanted is not True and "top_logprobs" not in said:
        said["top_logprobs"] = int(wanted)
    for name in said:
        if name not in _NAMES:
            known = sorted([*_NAMES, *_OTHER_NAMES, *_ALSO_READ, "adapter"])
            near = get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ConfigurationError(f"unknown option {name!r} of a call{meant}")
    return said


def _listed(value: Any) -> Iterable[Any]:
    return (value,) if isinstance(value, str) or callable(value) else tuple(value)


def _check(options: Options) -> None:
    """Every number where it can be."""
    wrong = {
        "max_new_tokens": options.max_new_tokens < 1,
        "temperature": not 0 <= options.temperature < float("inf"),
        "top_p": not 0 < options.top_p <= 1,
        "top_k": options.top_k < 0,
        "repetition_penalty": not 0 < options.repetition_penalty < float("inf"),
        "top_logprobs": not 0 <= options.top_logprobs <= 20,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigurationError(f"{name}={getattr(options, name)} is out of range")
    if not all(isinstance(text, str) and text for text in options.stop):
        raise ConfigurationError(f"stop={options.stop}; a stop text is a text that is not empty")
