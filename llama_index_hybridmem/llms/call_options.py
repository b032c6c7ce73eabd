"""Keyword arguments of one call, an adapter's defaults and a model's own settings as `Options`; knows no model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from math import inf
from types import UnionType
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.serving.request import Options

_NAMES = [option.name for option in fields(Options)]
_OTHER_NAMES = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "logits_processor": "processors",
}
_ALSO_READ = ["adapter", "do_sample", "logprobs", "system_prompt"]
_SEEDS = 1 << 31


def options_of(call: Mapping[str, Any], *defaults: Mapping[str, Any]) -> Options:
    """Put together how one answer is written.

    Args:
        call: keyword arguments of the call, by our names or by those of OpenAI and transformers (``max_tokens``,
            ``do_sample``, ``logprobs``, ``logits_processor``); None means "not said".
        *defaults: what holds where the call says nothing, the most important first.

    Raises:
        ConfigurationError: a name that we do not know, two names for one thing, or a value that cannot be.
    """
    chosen: dict[str, Any] = {}
    for layer in (call, *defaults):
        for name, value in _plain(layer).items():
            chosen.setdefault(name, value)
    if chosen.pop("do_sample", False):
        chosen["temperature"] = chosen.get("temperature") or 1.0  # as in transformers, which has no temperature of 0
    else:
        chosen["temperature"] = 0.0
    chosen.setdefault("seed", random.SystemRandom().randrange(_SEEDS))
    for name in ("stop", "stop_ids", "processors"):
        chosen[name] = _listed(chosen.get(name, ()))
    if "copy_also" in chosen:
        chosen["copy_also"] = _listed(chosen["copy_also"])
    if isinstance(chosen.get("copy_from"), list):
        chosen["copy_from"] = tuple(chosen["copy_from"])
    _check(chosen)
    return Options(**{**chosen, "stop_ids": frozenset(chosen["stop_ids"])})


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings under our names, those not said left out."""
    values = {name: value for name, value in given.items() if value is not None}
    said = {_OTHER_NAMES.get(name, name): value for name, value in values.items()}
    if len(said) < len(values):
        twice = [name for name in values if _OTHER_NAMES.get(name) in values] or sorted(values)
        raise ConfigurationError(f"two names of one option: {', '.join(twice)}")
    wanted = said.pop("logprobs", None)  # True, or the number of likeliest tokens as of old completion APIs
    if wanted is not None and wanted is not True:
        said.setdefault("top_logprobs", wanted or 0)
    for name in said:
        if name not in _NAMES and name != "do_sample":
            raise unknown_option(name, [*_NAMES, *_OTHER_NAMES, *_ALSO_READ], "a call")
    if isinstance(heat := said.get("temperature"), int | float):
        said.setdefault("do_sample", heat != 0)
    elif heat is not None:
        raise ConfigurationError(f"temperature={heat!r} should be a number")
    return said


def unknown_option(name: str, known: Iterable[str], of: str) -> ConfigurationError:
    """The error of a name that is not known, with the nearest that is."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return ConfigurationError(f"unknown option {name!r} of {of}; {meant}")


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _are_sources(given: str | tuple[Any, ...]) -> bool:
    return given in ("prompt", "off") if isinstance(given, str) else all(isinstance(text, str) for text in given)


_ALLOWED: Mapping[str, tuple[type | UnionType, Callable[[Any], bool], str]] = {
    "max_new_tokens": (int, lambda value: value >= 1, "a whole number, 1 or more"),
    "temperature": (int | float, lambda value: 0 <= value < inf, "a number, 0 or more"),
    "top_p": (int | float, lambda value: 0 < value <= 1, "a number above 0, at most 1"),
    "top_k": (int, lambda value: value >= 0, "a whole number, 0 or more"),
    "repetition_penalty": (int | float, lambda value: 0 < value < inf, "a number above 0"),
    "seed": (int, lambda value: -(2**63) <= value < 2**63, "a whole number of 64 bits, as torch takes them"),
    "top_logprobs": (int, lambda value: 0 <= value <= 20, "a whole number, 0 to 20"),
    "stop": (tuple, lambda texts: all(isinstance(text, str) and text for text in texts), "texts that are not empty"),
    "stop_ids": (tuple, lambda ids: all(type(each) is int for each in ids), "token ids"),
    "copy_from": (str | tuple, _are_sources, 'texts, "prompt" or "off"'),
    "copy_also": (
        tuple,
        lambda texts: all(isinstance(text, str) and text for text in texts),
        "texts that are not empty",
    ),
    "copy_unit": (str, lambda value: value in ("span", "word"), '"span" or "word"'),
    "processors": (tuple, lambda each: all(map(callable, each)), "functions of ids and logits"),
}


def _check(chosen: Mapping[str, Any]) -> None:
    """Every value where it can be."""
    for name, value in chosen.items():
        kind, is_right, words = _ALLOWED[name]
        if isinstance(value, bool) or not isinstance(value, kind) or not is_right(value):
            raise ConfigurationError(f"{name}={value!r} should be {words}")
