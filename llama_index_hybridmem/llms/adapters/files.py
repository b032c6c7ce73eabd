"""Reads an adapter's folder: configuration, header and tensors of a safetensors file; knows no model.

Two files are opened to serve: adapter_config.json and adapter_model.safetensors. Others, such as training_args.bin or
an adapter_model.bin beside the safetensors, are never opened: they are pickles, and reading one runs the code in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord, same_values
from llama_index_hybridmem.llms.adapters.config import AdapterConfig, read_config
from llama_index_hybridmem.llms.adapters.fingerprints import (
    sample_places,
    template_sha256,
    vocabulary_of,
    vocabulary_sha256,
)
from llama_index_hybridmem.llms.adapters.layout import Layout

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
RECORD_FILE = "hybridmem.json"
TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"

MAX_CONFIG_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 1 << 28
MAX_WEIGHTS_BYTES = 1 << 33
MAX_HEADER_BYTES = 1 << 24  # 200 bytes per tensor: 80,000 tensors
MAX_DIMENSIONS = 8
# safetensors' names of the types that a LoRA weight can have, and their bytes.
_DTYPES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
_SAVE = "Save the adapter again with PEFT's save_pretrained(..., safe_serialization=True)"
_COPY = "Copy the adapter's files again from where it was trained"


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's folder whose form was checked; its numbers were not read yet.

    Attributes:
        folder: where it lies.
        config: what adapter_config.json says.
        shapes: of the tensors in adapter_model.safetensors, by key.
        sha256: over the bytes of these two files.
        made_for: the base's record from hybridmem.json, where there is one.
        tokenizer_sha256: over the vocabulary of a tokenizer.json in the folder.
        chat_template_sha256: over a chat_template.jinja in the folder.
    """

    folder: Path
    config: AdapterConfig
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str
    made_for: BaseRecord | None = None
    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None

    @property
    def weights(self) -> Path:
        """The file with the tensors."""
        return self.folder / WEIGHTS_FILE


def open_adapter(folder: Path) -> AdapterFiles:
    """Checks the form of an adapter's folder, without reading a tensor's numbers.

    Args:
        folder: as PEFT's ``save_pretrained`` writes it.

    Raises:
        AdapterRefusedError: a file is missing, damaged, a pickle, or says what we do not serve.
    """
    folder = Path(folder)
    if not folder.is_dir():
        advice = "Give the folder that save_pretrained wrote"
        raise AdapterRefusedError(folder, None, "no folder of that name", advice)
    try:
        return _open(folder)
    except OSError as error:
        raise AdapterRefusedError(folder, None, f"it cannot be read ({error})", _COPY) from error


def _open(folder: Path) -> AdapterFiles:
    """Reads and checks file by file."""
    config_bytes = _content(folder, CONFIG_FILE, MAX_CONFIG_BYTES)
    config = read_config(_parsed(folder / CONFIG_FILE, config_bytes), str(folder / CONFIG_FILE))
    weights = _checked(folder, WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    return AdapterFiles(
        folder=folder,
        config=config,
        shapes=_header(weights),
        sha256=_sha256(config_bytes, weights),
        made_for=_record(folder),
        tokenizer_sha256=_tokenizer(folder),
        chat_template_sha256=_template(folder),
    )


def read_tensors(files: AdapterFiles) -> dict[str, torch.Tensor]:
    """Reads the numbers of an adapter: tensors in memory that maps the file, each value finite.

    Raises:
        AdapterRefusedError: a value is NaN or infinite, or the file is not the one that was opened.
    """
    from safetensors import SafetensorError, safe_open

    tensors = {}
    try:
        with safe_open(str(files.weights), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensors[key] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise AdapterRefusedError(files.weights, None, f"it cannot be read ({error})", _COPY) from error
    if {key: tuple(tensor.shape) for key, tensor in tensors.items()} != dict(files.shapes):
        raise AdapterRefusedError(files.weights, None, "it changed since it was checked", "Add the adapter again")
    for key, tensor in tensors.items():
        if not _finite(tensor):
            advice = "Its training broke down; take an earlier checkpoint, or train it with a lower learning rate"
            raise AdapterRefusedError(files.weights, key, "it holds NaN or infinite values", advice)
    return tensors


def check_copies(files: AdapterFiles, tensors: Mapping[str, torch.Tensor], layout: Layout, base: BaseRecord) -> None:
    """Compares the base's weights that PEFT saved beside LoRA on an embedding with the base's own.

    Raises:
        AdapterRefusedError: they differ, so the adapter was trained on another base or on a resized one.
    """
    for name, key in layout.copies.items():
        values = tensors[key].flatten()[sample_places(tensors[key].numel())].tolist()
        if name in base.samples and not same_values(values, base.samples[name]):
            advice = "Serve it on the base that it was trained on"
            raise AdapterRefusedError(files.weights, key, "not what the base has there", advice)


def _finite(tensor: torch.Tensor) -> bool:
    """Whether every value is finite: one sum tells, unless the sum itself is too large for its type."""
    import torch

    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


def _checked(folder: Path, name: str, limit: int) -> Path:
    """A file of the folder that is a plain file inside it, neither empty nor huge."""
    path = folder / name
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
        status = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        raise _missing(folder, name) from error
    if not inside:
        advice = "Copy the folder with its links resolved (cp -L), or download it with --local-dir"
        raise AdapterRefusedError(path, None, "a link that leads out of the folder", advice)
    if not stat.S_ISREG(status.st_mode):
        raise AdapterRefusedError(path, None, "no plain file", _COPY)
    if not 0 < status.st_size <= limit:
        raise AdapterRefusedError(path, None, f"{status.st_size} bytes, outside 1 to {limit}", _COPY)
    return path


def _missing(folder: Path, name: str) -> AdapterRefusedError:
    """Why a file is not there: a pickle in its place has its own advice."""
    pickles = [one.name for one in folder.glob("*.bin") if one.name != "training_args.bin"]
    if name == WEIGHTS_FILE and pickles:
        problem = "a pickle, which can run code when it is read, and no safetensors file beside it"
        return AdapterRefusedError(folder / sorted(pickles)[0], None, problem, _SAVE)
    return AdapterRefusedError(folder / name, None, "the file is missing", _COPY)


def _content(folder: Path, name: str, limit: int) -> bytes:
    """A small file's bytes."""
    return _checked(folder, name, limit).read_bytes()


def _parsed(path: Path, content: bytes) -> Any:
    """A JSON file's value; a key that stands twice is refused, since readers differ in which they take."""
    try:
        return json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise AdapterRefusedError(path, None, f"no readable JSON ({error})", _COPY) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file (8 bytes of length, a JSON header, the numbers without gaps)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        numbers = path.stat().st_size - 8 - length
        if not 2 <= length <= MAX_HEADER_BYTES or numbers < 0:
            raise AdapterRefusedError(path, None, "no safetensors file, or cut off in its header", _COPY)
        header = _parsed(path, file.read(length))
    if not isinstance(header, dict):
        raise AdapterRefusedError(path, None, "its header is no JSON object", _COPY)
    header.pop("__metadata__", None)
    spans = sorted((*_span(path, key, entry), key) for key, entry in header.items())
    end = 0
    for start, stop, key in spans:
        if start != end:
            raise AdapterRefusedError(path, key, f"its numbers start at byte {start}, not {end}", _COPY)
        end = stop
    if end != numbers:
        raise AdapterRefusedError(path, None, f"{numbers} bytes of numbers where the header says {end}", _COPY)
    return {key: tuple(entry["shape"]) for key, entry in header.items()}


def _span(path: Path, key: str, entry: Any) -> tuple[int, int]:
    """First byte and end of one tensor, after checking its entry in the header."""
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        advice = "Save the adapter's weights as float32, float16 or bfloat16"
        raise AdapterRefusedError(path, key, f"its dtype is {dtype!r}", advice)
    if not _are_counts(shape) or not _are_counts(span) or len(span) != 2:
        raise AdapterRefusedError(path, key, "its entry in the header is damaged", _COPY)
    if span[1] - span[0] != math.prod(shape) * _DTYPES[dtype]:
        problem = f"shape {tuple(shape)} in {dtype} does not fill the bytes {span[0]} to {span[1]}"
        raise AdapterRefusedError(path, key, problem, _COPY)
    return span[0], span[1]


def _are_counts(value: Any) -> bool:
    """Whether a header's value is a list of numbers from 0 up, of a size that a file can have."""
    sized = isinstance(value, list) and len(value) <= MAX_DIMENSIONS
    return sized and all(type(one) is int and 0 <= one <= MAX_WEIGHTS_BYTES for one in value)


def _sha256(config: bytes, weights: Path) -> str:
    """A hash over both files, each with its length in front."""
    digest = hashlib.sha256(f"{len(config)} {weights.stat().st_size}\n".encode() + config)
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _record(folder: Path) -> BaseRecord | None:
    """What hybridmem.json says that the adapter was made for."""
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    value = _parsed(path, _content(folder, RECORD_FILE, MAX_CONFIG_BYTES))
    base = value.get("base") if isinstance(value, dict) else value
    return None if base is None else BaseRecord.from_json(base, str(path))


def _tokenizer(folder: Path) -> str | None:
    """The hash of the vocabulary that a trainer saved beside the adapter."""
    path = folder / TOKENIZER_FILE
    if not path.exists():
        return None
    value = _parsed(path, _content(folder, TOKENIZER_FILE, MAX_TOKENIZER_BYTES))
    try:
        return vocabulary_sha256(vocabulary_of(value))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        advice = "Remove the file, or copy the tokenizer again from the base"
        raise AdapterRefusedError(path, "model.vocab", f"no vocabulary ({error})", advice) from error


def _template(folder: Path) -> str | None:
    """The hash of the chat template that a trainer saved beside the adapter."""
    path = folder / TEMPLATE_FILE
    if not path.exists():
        return None
    try:
        return template_sha256(_content(folder, TEMPLATE_FILE, MAX_CONFIG_BYTES).decode())
    except UnicodeDecodeError as error:
        raise AdapterRefusedError(path, None, f"no UTF-8 text ({error})", _COPY) from error
