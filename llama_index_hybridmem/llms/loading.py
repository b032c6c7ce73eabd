"""A base model and its tokenizer, given or loaded on first use; knows no adapters and nothing of LlamaIndex."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError
from llama_index_hybridmem.extras import require

_LOADING = threading.Lock()  # two threads that ask first must not load the weights twice
_LOADED: WeakValueDictionary[Source, Loaded] = WeakValueDictionary()  # weights go when nobody holds them


@dataclass(frozen=True)
class Source:
    """Where a base model comes from; those who hold equal sources share one model in a process.

    Attributes:
        path: a model folder or a name on the hub.
        revision: on the hub; None for its main branch.
        dtype: of the weights in memory, as torch names it, or "auto" for the checkpoint's own.
        device: as torch names it; not used with a device map or quantisation.
        device_map: of accelerate, as JSON; "" for none.
        quantization: "4bit", "8bit", or the settings of a `BitsAndBytesConfig` as JSON; "" for none.
    """

    path: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    device_map: str = ""
    quantization: str = ""


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any


class Base:
    """A base model: given as objects, or by its source and then loaded when it is first needed.

    A copy of it, shallow or deep, is itself: copies of an LLM share the weights.

    Args:
        source: where it comes from; None for a given one.
        given: the objects; None for a named one.
    """

    def __init__(self, source: Source | None = None, given: Loaded | None = None) -> None:
        self.source = source
        self.engine: Any = None  # what serves it, kept here by who starts that, for all copies
        self._loaded = given

    @property
    def name(self) -> str:
        """What the model is called where it came from."""
        if self.source is not None:
            return self.source.path
        return str(getattr(self.loaded().model, "name_or_path", "") or type(self.loaded().model).__name__)

    def loaded(self) -> Loaded:
        """The objects, loaded if they are not yet.

        Raises:
            MissingExtraError: torch, transformers or bitsandbytes is not installed.
            ConfigurationError: the files are missing or damaged, or of a kind that transformers does not know.
        """
        if self._loaded is None:
            assert self.source is not None
            with _LOADING:
                if (loaded := _LOADED.get(self.source)) is None:
                    loaded = _LOADED[self.source] = load(self.source)
                self._loaded = loaded
        return self._loaded

    def __copy__(self) -> Base:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Base:
        return self

    def __reduce__(self) -> Any:
        if self.source is None:
            raise ConfigurationError(
                "a model given as an object cannot be pickled: make it with from_pretrained(…), which is loaded again"
            )
        return Base, (self.source,)


def load(source: Source) -> Loaded:
    """Read a model and its tokenizer, which nobody else gets.

    Args:
        source: where it comes from.

    Raises:
        MissingExtraError: see `Base.loaded`.
        ConfigurationError: see `Base.loaded`.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("a local language model", "lora") from error
    options: dict[str, Any] = {}
    if source.device_map:
        require("device_map", "lora", "accelerate")
        options["device_map"] = json.loads(source.device_map)
    if source.quantization:
        options["quantization_config"] = _quantized(source.quantization, source.dtype)
    try:
        dtype = source.dtype if source.dtype == "auto" else getattr(torch, source.dtype)
        with no_progress_bar():
            tokenizer = AutoTokenizer.from_pretrained(source.path, revision=source.revision or "main")
            model: Any = AutoModelForCausalLM.from_pretrained(
                source.path, revision=source.revision or "main", dtype=dtype, **options
            )
        if not options:
            model = model.to(source.device)
    # torch tells of a device that is not there by RuntimeError or, where it was built without it, AssertionError
    except (OSError, ValueError, AttributeError, RuntimeError, AssertionError, SafetensorError) as error:
        raise ConfigurationError(f"the language model {source.path} could not be loaded: {error}") from error
    return Loaded(model.eval(), tokenizer)


def _quantized(settings: str, dtype: str) -> Any:
    """A `BitsAndBytesConfig`: 4 bits are NF4 as in QLoRA (arXiv 2305.14314), computed in the model's type."""
    from transformers import BitsAndBytesConfig

    require(f"quantization={settings!r}", "quantized", "bitsandbytes")
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    computed = {} if dtype == "auto" else {"bnb_4bit_compute_dtype": dtype}
    own = {"4bit": {**four, **computed}, "8bit": {"load_in_8bit": True}}
    try:
        chosen = own[settings] if settings in own else json.loads(settings)
        return BitsAndBytesConfig.from_dict(chosen)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, AttributeError) as error:
        problem = f"quantization is '4bit', '8bit' or a BitsAndBytesConfig, and not {settings}: {error}"
        raise ConfigurationError(problem) from error


def dtype_name(dtype: Any) -> Any:
    """A torch dtype as a `Source` keeps it, by its name; anything else as it is."""
    return str(dtype).removeprefix("torch.") if type(dtype).__module__ == "torch" else dtype


def as_text(value: Any) -> str:
    """A device map or quantisation as a `Source` keeps it: "" for None, "4bit" and "8bit" as they are, else JSON.

    Args:
        value: None, a text, a device's number, a mapping, a `BitsAndBytesConfig`, or what this function gave before.

    Raises:
        ConfigurationError: none of these.
    """
    if value is None or value in ("", "4bit", "8bit"):
        return value or ""
    settings = value.to_dict() if hasattr(value, "to_dict") else value
    if isinstance(settings, str) and (settings[0] in '{"' or settings.isdigit()):
        return settings  # JSON already
    if not isinstance(settings, str | int | Mapping):
        raise ConfigurationError(f"{value!r} is no device map and no quantisation")
    try:
        return json.dumps(dict(settings) if isinstance(settings, Mapping) else settings)
    except TypeError as error:
        raise ConfigurationError(f"{value!r} cannot be kept as JSON: {error}") from error


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Transformers' bar of loading weights is not shown meanwhile: a library prints nothing."""
    from transformers.utils import logging as settings

    shown = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            settings.enable_progress_bar()  # type: ignore[no-untyped-call]
