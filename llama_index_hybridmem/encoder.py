"""The default encoder, all-MiniLM-L6-v2 as a LlamaIndex embedding; knows nothing of stores, chunks or queries.

torch is imported on the first embedding, and the weights are loaded once per process, however many `MiniLMEmbedding`
objects there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from llama_index_hybridmem.bert import HUB_NAME, Weights, find_weights, load_bert, load_tokenizer
from llama_index_hybridmem.branches import in_thread
from llama_index_hybridmem.errors import ConfigurationError, EncoderError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Encoding

_EXTRA_MODULES = ("torch", "tokenizers", "safetensors")
_TOKENS_PER_PASS = 2048  # padded; on a CPU larger passes only fall out of the cache


class MiniLMEmbedding(BaseEmbedding):
    """all-MiniLM-L6-v2 (384 dimensions, English, reads 256 word pieces) as a LlamaIndex embedding.

    The files are found and checked at construction (`find_weights`); torch is imported on the first embedding. Safe to
    share between threads, to pickle (the weights stay out) and to copy (the weights are shared).

    Args:
        folder: a folder with the model's files; None takes the installed package, else the hub.
        device: a torch device; ``"cpu"`` needs 5 ms for a short query on one core.
        max_tokens: word pieces read of a text, with the two special ones; 256 as sentence-transformers has it.

    Raises:
        MissingExtraError: torch, tokenizers or safetensors is not installed.
        EncoderError: the files are missing or damaged.
    """

    folder: str | None = Field(default=None, description="Folder of the model; None: the installed package or the hub.")
    device: str = Field(default="cpu", description="The torch device that computes.")
    max_tokens: int = Field(default=256, ge=3, le=512, description="Word pieces read of a text, special ones included.")
    embed_batch_size: int = Field(default=64, gt=0, le=2048, description="Texts taken at a time, sorted by length.")
    _weights: Weights = PrivateAttr()

    def __init__(self, folder: str | Path | None = None, **fields: Any) -> None:
        if not all(_is_installed(name) for name in _EXTRA_MODULES):
            raise MissingExtraError("MiniLM encoder", "encoder")
        weights = find_weights(folder)
        named: dict[str, Any] = {"model_name": weights.name, "folder": None if folder is None else str(folder)}
        super().__init__(**(named | fields))
        self._weights = weights

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "MiniLMEmbedding"

    @property
    def dimension(self) -> int:
        """Floats per vector; known without loading the weights."""
        return int(self._weights.config["hidden_size"])

    @property
    def weights_sha256(self) -> str:
        """Names the weights: vectors of two encoders can be compared only if it is the same."""
        return self._weights.sha256

    def count_tokens(self, text: str) -> int:
        """How many word pieces the text has, without the special ones."""
        return len(self._encoding(text, specials=False).ids)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each word piece stands in the text: (start, end) in characters, without the special ones."""
        offsets: list[tuple[int, int]] = self._encoding(text, specials=False).offsets
        return offsets

    def _encoding(self, text: str, *, specials: bool) -> Encoding:
        # One text at a time: the tokenizer's own thread pool would warn of every later fork, and is no gain here.
        tokenizer = load_tokenizer(self._weights.folder)
        try:
            return tokenizer.encode(text, add_special_tokens=specials)
        except (TypeError, UnicodeEncodeError):  # half a surrogate pair, as some PDF readers leave; "?" keeps offsets
            return tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=specials)

    def _token_ids(self, text: str) -> list[int]:
        ids: list[int] = self._encoding(text, specials=True).ids
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        model = load_bert(self._weights, self.device)
        rows = [self._token_ids(text) for text in texts]
        vectors: list[list[float]] = [[] for _ in rows]
        for places in _passes([len(row) for row in rows]):
            encoded = model.encode([rows[place] for place in places])
            for place, vector in zip(places, encoded, strict=True):
                vectors[place] = vector
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await in_thread(self._get_text_embeddings, texts)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts of like length, grouped so that each forward pass stays within `_TOKENS_PER_PASS`."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if group and (len(group) + 1) * lengths[place] > _TOKENS_PER_PASS:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def default_encoder() -> MiniLMEmbedding:
    """MiniLM from the installed package, else from the hub.

    Raises:
        MissingExtraError: the extra ``encoder`` is not installed.
        EncoderError: no usable weights.
    """
    return MiniLMEmbedding()


def resolve_encoder(value: str | BaseEmbedding | None = None) -> BaseEmbedding:
    """Turns what a user gives as an encoder into a LlamaIndex embedding.

    Args:
        value: a LlamaIndex embedding (returned as it is); None, ``"minilm"`` or MiniLM's hub name for the default; any
            other name or path goes to LlamaIndex's ``HuggingFaceEmbedding``.

    Raises:
        MissingExtraError: the extra for that encoder is not installed.
        EncoderError: it cannot be loaded.
        ConfigurationError: the value is of another type.
    """
    if isinstance(value, BaseEmbedding):
        return value
    if value is None or value in ("minilm", HUB_NAME):
        return default_encoder()
    if not isinstance(value, str):
        raise ConfigurationError(f"an encoder is a name or a LlamaIndex embedding, not {type(value).__name__}")
    try:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    except ImportError as error:
        raise MissingExtraError(f"the encoder {value!r}", "huggingface") from error
    try:
        embedding: BaseEmbedding = HuggingFaceEmbedding(model_name=value)
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"the encoder {value!r} could not be loaded: {error}") from error
    return embedding


def encoder_identity(embed_model: BaseEmbedding, dimension: int | None = None) -> dict[str, Any]:
    """What a store's manifest records of the encoder it was built with.

    Args:
        embed_model: any LlamaIndex embedding.
        dimension: floats per vector, where known; else an embedding without a ``dimension`` is asked for one vector.

    Returns:
        JSON: ``name`` and ``dimension``; for `MiniLMEmbedding` also ``weights`` (sha256) and ``max_tokens``.

    Raises:
        EncoderError: the embedding fails on the trial text.
    """
    if isinstance(embed_model, MiniLMEmbedding):
        return {
            "name": embed_model.model_name,
            "dimension": embed_model.dimension,
            "weights": embed_model.weights_sha256,
            "max_tokens": embed_model.max_tokens,
        }
    if dimension is None:
        try:
            dimension = len(embed_model.get_text_embedding("dimension"))
        except Exception as error:  # noqa: BLE001 - any integration, any error of its own
            raise EncoderError(f"the encoder {embed_model.model_name!r} failed on a trial text: {error}") from error
    return {"name": embed_model.model_name, "dimension": dimension}
