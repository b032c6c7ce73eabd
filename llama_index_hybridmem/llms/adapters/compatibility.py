"""Judges whether an adapter was made for a base, by a record of that base; knows no files, no torch.

A LoRA file of another base with the same shapes loads without an error and answers with garbage, here, in PEFT and in
vLLM. So a record of the base travels with the adapter, and is compared before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.config import AdapterConfig, read_config
from llama_index_hybridmem.llms.adapters.layout import Layout, LoraPart, ModuleShape, lay_out

__all__ = [
    "AdapterConfig",
    "BaseRecord",
    "Layout",
    "LoraPart",
    "ModuleShape",
    "check_base",
    "lay_out",
    "read_config",
    "same_values",
]

# A value of one base in float16, bfloat16 or float32: bfloat16 keeps 8 bits, an error of 0.4 %.
RELATIVE_ERROR = 0.01
ABSOLUTE_ERROR = 1e-6

_SERVE = "Serve it on the base that it was trained on, or train it on this one"
_TOKENIZER = "Load the base with the tokenizer that the adapter was trained with"


@dataclass(frozen=True)
class BaseRecord:
    """What an adapter must have been made for.

    Attributes:
        name: the base as it was asked for, a path or a name on the Hub.
        revision: its commit on the Hub, None where that is not known.
        model_type: the architecture, such as "llama".
        sizes: numbers of its configuration, such as hidden_size, those it has.
        dtype: of the weights in memory, such as "bfloat16".
        quantization: "4bit", "8bit" or a method's name; None: none.
        samples: a few values of a few weights that are not quantised, as float32, by the parameter's name.
        samples_sha256: over the same values in their own dtype.
        tokenizer_sha256: over the vocabulary with its ids.
        chat_template_sha256: None where the tokenizer has no template.
        special_tokens: ids of "bos", "eos" and "pad", None where there is none.
    """

    name: str
    revision: str | None
    model_type: str
    sizes: Mapping[str, int]
    dtype: str
    quantization: str | None
    samples: Mapping[str, tuple[float, ...]]
    samples_sha256: str
    tokenizer_sha256: str
    chat_template_sha256: str | None
    special_tokens: Mapping[str, int | None]

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a file."""
        record = asdict(self)
        record["samples"] = {name: list(values) for name, values in self.samples.items()}
        return record

    @classmethod
    def from_json(cls, value: Any, place: str) -> BaseRecord:
        """Reads what ``to_json`` gave.

        Args:
            value: the parsed JSON.
            place: the file, for messages.

        Raises:
            AdapterRefusedError: a field is missing, unknown or of another type.
        """
        advice = "Remove the file and add the adapter again from its training folder"
        if not isinstance(value, Mapping):
            raise AdapterRefusedError(place, "base", "no JSON object", advice)
        for name, fits in _FIELDS.items():
            if name not in value or not fits(value[name]):
                raise AdapterRefusedError(place, f"base.{name}", "missing, or of another type", advice)
        known = {name: value[name] for name in _FIELDS}
        known["samples"] = {name: tuple(map(float, values)) for name, values in value["samples"].items()}
        return cls(**known)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_int, value.values()))


def _is_tokens(value: Any) -> bool:
    return isinstance(value, Mapping) and all(one is None or _is_int(one) for one in value.values())


def _is_samples(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(row, list | tuple)
        and all(isinstance(one, float) or (_is_int(one) and abs(one) < 2**63) for one in row)
        for row in value.values()
    )


_FIELDS = {
    "name": _is_text,
    "revision": _is_text_or_none,
    "model_type": _is_text,
    "sizes": _is_sizes,
    "dtype": _is_text,
    "quantization": _is_text_or_none,
    "samples": _is_samples,
    "samples_sha256": _is_text,
    "tokenizer_sha256": _is_text,
    "chat_template_sha256": _is_text_or_none,
    "special_tokens": _is_tokens,
}


def check_base(
    made_for: BaseRecord | None,
    base: BaseRecord,
    config: AdapterConfig,
    place: str,
    also_known_as: Sequence[str] = (),
    *,
    tokenizer_sha256: str | None = None,
    chat_template_sha256: str | None = None,
) -> None:
    """Compares what an adapter was made for with the base that shall serve it.

    Args:
        made_for: the record that came with the adapter; without one only names can be compared.
        base: the record of the base in memory.
        config: the adapter's configuration.
        place: the adapter's file, for messages.
        also_known_as: further names of the base, such as its name on the Hub when it was loaded from a folder.
        tokenizer_sha256: of a tokenizer that lies in the adapter's folder.
        chat_template_sha256: of a chat template that lies in the adapter's folder.

    Raises:
        AdapterRefusedError: it was made for another base, or with another tokenizer or chat template.
    """
    _check_tokenizer(tokenizer_sha256, chat_template_sha256, base, place)
    if made_for is None:
        _check_names(config, base, also_known_as, place)
        return
    if made_for.model_type != base.model_type:
        problem = f"made for a {made_for.model_type}, the base is a {base.model_type}"
        raise AdapterRefusedError(place, "model_type", problem, _SERVE)
    for name in sorted({*made_for.sizes, *base.sizes}):
        here, there = base.sizes.get(name), made_for.sizes.get(name)
        if here != there:
            raise AdapterRefusedError(place, name, f"made for {there}, the base has {here}", _SERVE)
    _check_samples(made_for, base, place)
    _check_tokenizer(made_for.tokenizer_sha256, made_for.chat_template_sha256, base, place)
    for name in ("bos", "eos"):  # pads are masked: they change no answer
        here, there = base.special_tokens.get(name), made_for.special_tokens.get(name)
        if here != there:
            raise AdapterRefusedError(place, f"{name}_token", f"made with id {there}, the base has {here}", _TOKENIZER)


def _check_names(config: AdapterConfig, base: BaseRecord, also_known_as: Sequence[str], place: str) -> None:
    """Compares the ends of names, which is all there is without a record."""
    if config.base_name is None:
        return
    known = {_last(name) for name in (base.name, *also_known_as) if _last(name)}
    if known and _last(config.base_name) not in known:
        problem = f"trained on {config.base_name!r}, the base is {base.name!r}"
        advice = f"{_SERVE}; if both are the same model, say so with also_known_as=[{config.base_name!r}]"
        raise AdapterRefusedError(place, "base_model_name_or_path", problem, advice)


def _last(name: str) -> str:
    """The last component of a path or Hub name, in lower case."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def _check_tokenizer(tokenizer: str | None, template: str | None, base: BaseRecord, place: str) -> None:
    """Compares vocabulary and chat template; an adapter without them has nothing to compare."""
    if tokenizer is not None and tokenizer != base.tokenizer_sha256:
        raise AdapterRefusedError(place, "tokenizer", "made with another vocabulary than the base's", _TOKENIZER)
    if template is not None and template != base.chat_template_sha256:
        advice = f"{_TOKENIZER}; if both templates write the same text, remove chat_template.jinja from the adapter"
        raise AdapterRefusedError(place, "chat_template", "made with another chat template than the base's", advice)


def _check_samples(made_for: BaseRecord, base: BaseRecord, place: str) -> None:
    """Compares weights: exactly in the same dtype, nearly across dtypes and quantisation."""
    common = sorted(made_for.samples.keys() & base.samples.keys())
    for name in common:
        if not same_values(made_for.samples[name], base.samples[name]):
            raise AdapterRefusedError(place, name, "made for a base with other weights here", _SERVE)
    comparable = made_for.samples.keys() == base.samples.keys() and made_for.dtype == base.dtype
    quantised = made_for.quantization is not None or base.quantization is not None
    exact = comparable and not quantised
    if not common or (exact and made_for.samples_sha256 != base.samples_sha256):
        raise AdapterRefusedError(place, "samples_sha256", "made for a base with other weights", _SERVE)


def same_values(some: Sequence[float], others: Sequence[float]) -> bool:
    """Whether two runs of values are the same up to the precision of their dtypes."""
    return len(some) == len(others) and all(
        abs(one - other) <= ABSOLUTE_ERROR + RELATIVE_ERROR * max(abs(one), abs(other))
        for one, other in zip(some, others, strict=True)
    )
