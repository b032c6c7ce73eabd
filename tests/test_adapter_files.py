"""Adapter folders on disk: every kind of the zoo is refused, PEFT's own are accepted and computed as PEFT computes."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_zoo import CONFIG, WEIGHTS, ZOO, write_adapter

from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError
from llama_index_hybridmem.llms.adapters.base_record import modules_of, parameters_of, record_of, record_of_folder
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord, check_base
from llama_index_hybridmem.llms.adapters.config import AdapterConfig
from llama_index_hybridmem.llms.adapters.files import AdapterFiles, check_copies, open_adapter, read_tensors
from llama_index_hybridmem.llms.adapters.layout import Layout, lay_out

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft", "safetensors")),
    reason="needs the extra 'lora'",
)
ANY = AdapterConfig(4, 8.0)
PEFTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": "all-linear"}),
    "two-modules": ("llama", {"target_modules": ["q_proj", "v_proj"]}),
    "rslora": ("llama", {"target_modules": ["q_proj"], "use_rslora": True}),
    "dora": ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "up_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 3, "v_proj": 2, "^model.layers.0.mlp.up_proj": 5},
            "alpha_pattern": {".*v_proj": 5, "q_proj": 7},
        },
    ),
    "rslora-patterns": ("llama", {"target_modules": ["q_proj"], "use_rslora": True, "rank_pattern": {"1.*q_proj": 3}}),
    "regular-expression": ("llama", {"target_modules": r".*layers\.1\..*(q|v)_proj"}),
    "one-layer": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "one-layer-by-pattern": (
        "llama",
        {"target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
    ),
    "without-some": (
        "llama",
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    ),
    "own-head": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "own-norms": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "own-mlp": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]}),
    "embedding": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    "embedding-dora": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "head": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "tied": ("qwen", {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),
    "tied-and-saved": (
        "qwen",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
}


def _loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def bases(llama_folder: Path, qwen_folder: Path) -> dict[str, tuple[Any, Any]]:
    """A Llama, a Qwen with tied embeddings, and a GPT-2, whose linear modules are Conv1D, each with a tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    llama, qwen = _loaded(llama_folder), _loaded(qwen_folder)
    config = GPT2Config(
        vocab_size=len(llama[1]), n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    return {"llama": llama, "qwen": qwen, "gpt2": (GPT2LMHeadModel(config), llama[1])}


@pytest.fixture(scope="module")
def good(bases: dict[str, tuple[Any, Any]], llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain adapter of all layers of the Llama."""
    linear = {name: shape for name, shape in modules_of(bases["llama"][0]).items() if ".layers." in name}
    return write_adapter(tmp_path_factory.mktemp("good") / "adapter", linear, str(llama_folder))


@pytest.fixture(scope="module")
def record(bases: dict[str, tuple[Any, Any]]) -> BaseRecord:
    """What the Llama is."""
    return record_of(*bases["llama"])


def _by_peft(bases: dict[str, tuple[Any, Any]], name: str, out: Path) -> Any:
    """An adapter of PEFT with random A and B, saved; gives PEFT's model."""
    import peft

    base, settings = PEFTS[name]
    with warnings.catch_warnings():  # of PEFT: names that go away, embeddings saved, tied weights
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", init_lora_weights=False, **settings)
        model = peft.get_peft_model(copy.deepcopy(bases[base][0]), config)
        model.save_pretrained(out)
    return model


def _checked(folder: Path, model: Any, record: BaseRecord) -> tuple[AdapterFiles, Layout, dict[str, Any]]:
    """All the checks, in the order in which an adapter meets them."""
    files = open_adapter(folder)
    check_base(
        files.made_for,
        record,
        files.config,
        str(files.folder / CONFIG),
        tokenizer_sha256=files.tokenizer_sha256,
        chat_template_sha256=files.chat_template_sha256,
    )
    layout = lay_out(files.config, files.shapes, modules_of(model), parameters_of(model), str(files.weights))
    tensors = read_tensors(files)
    check_copies(files, tensors, layout, record)
    return files, layout, tensors


@pytest.mark.parametrize("name", [name for name, kind in ZOO.items() if kind.found_by != "probe"])
def test_every_kind_of_the_zoo_is_refused(
    name: str, good: Path, bases: dict[str, tuple[Any, Any]], record: BaseRecord, tmp_path: Path
) -> None:
    """The refusal names a file of the adapter, the key and what to do, and nothing in the folder was run."""
    kind = ZOO[name]
    folder = kind.made_from(good, tmp_path / name)
    with pytest.raises(AdapterRefusedError, match=f"(?s){kind.message}") as refused:
        _checked(folder, bases["llama"][0], record)
    assert str(folder) in str(refused.value.place)
    assert len(refused.value.advice.split()) > 2
    assert not Path("the-pickle-was-read").exists()


def test_the_zoo_is_refused_for_its_one_fault(
    good: Path, bases: dict[str, tuple[Any, Any]], record: BaseRecord
) -> None:
    """The adapter that the zoo breaks passes every check; the zoo has at least twenty kinds."""
    files, layout, tensors = _checked(good, bases["llama"][0], record)
    assert len(layout.parts) == 14
    assert tensors.keys() == files.shapes.keys()
    assert len(ZOO) >= 20


def test_only_a_forward_pass_finds_an_adapter_without_effect(
    good: Path, bases: dict[str, tuple[Any, Any]], record: BaseRecord, tmp_path: Path
) -> None:
    """Zeros are good numbers: these checks accept them, so that the engine has to probe."""
    _checked(ZOO["no-effect"].made_from(good, tmp_path / "zeros"), bases["llama"][0], record)


@pytest.mark.parametrize("name", PEFTS)
def test_an_adapter_of_peft_is_computed_as_peft_does(
    name: str, bases: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    """PEFT's folder is accepted; ranks, scalings, tensors and replaced weights are PEFT's, module by module."""
    import torch

    by_peft = _by_peft(bases, name, tmp_path).base_model.model
    base, settings = PEFTS[name]
    files, layout, tensors = _checked(tmp_path, bases[base][0], record_of(*bases[base]))
    adapted = {part.module for part in layout.parts}
    assert adapted == {one for one, module in by_peft.named_modules() if hasattr(module, "lora_A")}
    for part in layout.parts:
        module = by_peft.get_submodule(part.module)
        assert (part.rank, part.scaling) == (module.r["default"], module.scaling["default"])
        embedding = part.kind == "embedding"
        a = module.lora_embedding_A["default"] if embedding else module.lora_A["default"].weight
        assert torch.equal(tensors[part.a], a)
        assert (part.magnitude is None) is not settings.get("use_dora", False)
    for parameter in layout.saved:
        assert parameters_of(bases[base][0])[parameter] == tuple(tensors[layout.saved[parameter]].shape)
    used = [key for part in layout.parts for key in (part.a, part.b, part.magnitude) if key]
    assert sorted([*used, *layout.saved.values(), *layout.copies.values()]) == sorted(files.shapes)
    assert files.config.exclusive is (settings.get("use_dora", False) or "modules_to_save" in settings)


def test_a_trained_voice_is_accepted(llama_voices: Any, exotic_voices: Any, bases: Any, record: BaseRecord) -> None:
    """Adapters that were trained, not only made, pass as well."""
    for voice in [*llama_voices.values(), *exotic_voices.values()]:
        assert _checked(voice.folder, bases["llama"][0], record)[1].parts


@pytest.mark.parametrize("initialiser", ["pissa", "olora"])
def test_the_advice_for_an_initialiser_that_changes_the_base_works(
    initialiser: str, bases: dict[str, tuple[Any, Any]], record: BaseRecord, tmp_path: Path
) -> None:
    """Saved as the refusal says, such an adapter is plain LoRA on the untouched base and is accepted."""
    import peft
    import torch

    with warnings.catch_warnings():  # of PEFT: names that go away, initialisers that change the base
        warnings.simplefilter("ignore")
        settings = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=initialiser)
        model = peft.get_peft_model(copy.deepcopy(bases["llama"][0]), settings)
        model.save_pretrained(tmp_path / "untrained")
        with torch.no_grad():
            model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight.mul_(1.1)
        model.save_pretrained(tmp_path / "moved")
        start = str(tmp_path / "untrained")
        model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=start)
    with pytest.raises(AdapterRefusedError, match="path_initial_model_for_weight_conversion"):
        open_adapter(tmp_path / "moved")
    assert _checked(tmp_path / "plain", bases["llama"][0], record)[1].parts[0].rank == 8


def test_a_copy_of_another_embedding_is_refused(bases: Any, record: BaseRecord, tmp_path: Path) -> None:
    """PEFT saves the base's embedding beside LoRA on it, and would load it into the base: it has to be the base's."""
    import torch

    other = copy.deepcopy(bases["llama"][0])
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(1.1)
    _by_peft({"llama": (other, None)}, "embedding", tmp_path)
    with pytest.raises(AdapterRefusedError, match=r"embed_tokens\.base_layer\.weight: not what the base has there"):
        _checked(tmp_path, bases["llama"][0], record)


def test_other_files_in_the_folder_change_nothing(good: Path, tmp_path: Path) -> None:
    """A pickle beside the safetensors, as trainers leave it, is neither read nor part of the hash."""
    folder = tmp_path / "adapter"
    write = ZOO["only-pickle"].made_from(good, tmp_path / "source") / "adapter_model.bin"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((good / name).read_bytes())
    for name in ("training_args.bin", "adapter_model.bin"):
        (folder / name).write_bytes(write.read_bytes())
    assert open_adapter(folder).sha256 == open_adapter(good).sha256
    assert not Path("the-pickle-was-read").exists()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_the_hash_covers_both_files(name: str, good: Path, tmp_path: Path) -> None:
    """One changed byte of the configuration or of the numbers is another version."""
    for one in (CONFIG, WEIGHTS):
        content = (good / one).read_bytes()
        changed = content[:-1] + (b" }" if one == CONFIG else bytes([content[-1] ^ 1]))
        (tmp_path / one).write_bytes(changed if one == name else content)
    assert open_adapter(tmp_path).sha256 != open_adapter(good).sha256


def test_a_file_that_changed_after_the_check_is_refused(good: Path, tmp_path: Path) -> None:
    """What is read is what was checked."""
    folder = ZOO["no-effect"].made_from(good, tmp_path / "adapter")
    files = open_adapter(folder)
    ZOO["half-of-the-keys"].spoil(folder)
    with pytest.raises(AdapterRefusedError, match="it changed since it was checked"):
        read_tensors(files)
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterRefusedError, match="it cannot be read"):
        read_tensors(files)


def test_large_finite_values_pass(good: Path, tmp_path: Path) -> None:
    """A sum that overflows float16 is no infinite value."""
    import torch
    from safetensors.torch import load_file, save_file

    (tmp_path / CONFIG).write_bytes((good / CONFIG).read_bytes())
    tensors = {key: torch.full_like(tensor, 60_000).half() for key, tensor in load_file(good / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    assert all(bool((tensor == 60_000).all()) for tensor in read_tensors(open_adapter(tmp_path)).values())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(good: Path, tmp_path: Path) -> None:
    """Reading a pipe that nobody writes to would never end."""
    (tmp_path / CONFIG).write_bytes((good / CONFIG).read_bytes())
    os.mkfifo(tmp_path / WEIGHTS)
    with pytest.raises(AdapterRefusedError, match="no plain file"):
        open_adapter(tmp_path)


def test_the_record_beside_an_adapter_is_read(good: Path, record: BaseRecord, bases: Any, tmp_path: Path) -> None:
    """hybridmem.json says what an adapter was made for, and wins over the name in the configuration."""
    folder = ZOO["other-base-name"].made_from(good, tmp_path / "adapter")
    (folder / "hybridmem.json").write_text(json.dumps({"base": record.to_json(), "lineage": {}}))
    files, _, _ = _checked(folder, bases["llama"][0], record)
    assert files.made_for == record


def test_the_tokenizer_that_a_trainer_saved_is_the_bases(
    good: Path, record: BaseRecord, bases: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    """Saved beside the adapter from the base, vocabulary and template match; those of another base do not."""
    for base in ("llama", "qwen"):
        ZOO["no-effect"].made_from(good, tmp_path / base)
        bases[base][1].save_pretrained(tmp_path / base)
    files, _, _ = _checked(tmp_path / "llama", bases["llama"][0], record)
    saved = (files.tokenizer_sha256, files.chat_template_sha256)
    assert saved == (record.tokenizer_sha256, record.chat_template_sha256)
    assert None not in saved
    with pytest.raises(AdapterRefusedError, match="another vocabulary"):
        _checked(tmp_path / "qwen", bases["llama"][0], record)


@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_a_folder_has_the_record_of_its_model_in_memory(
    base: str, llama_folder: Path, qwen_folder: Path, bases: dict[str, tuple[Any, Any]]
) -> None:
    """What the command line reads without loading is what the engine finds in memory: weights, tokenizer, shapes."""
    folder = {"llama": llama_folder, "qwen": qwen_folder}[base]
    model, tokenizer = bases[base]
    read, modules, parameters = record_of_folder(folder)
    assert read == record_of(model, tokenizer)
    assert modules == modules_of(model)
    assert parameters == parameters_of(model)
    assert len(read.samples) >= 4


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    """No network is asked for a folder that is not there, or holds something else."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="base model"):
            record_of_folder(folder)


def test_hooks_and_dtype_keep_a_record_comparable(bases: dict[str, tuple[Any, Any]], record: BaseRecord) -> None:
    """Our hooks change nothing of it, and the same weights in bfloat16 are the same base; other weights are not."""
    import torch

    model, tokenizer = copy.deepcopy(bases["llama"][0]), bases["llama"][1]
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
    assert record_of(model, tokenizer) == record
    half = record_of(model.to(torch.bfloat16), tokenizer)
    assert half.dtype == "bfloat16"
    assert half.samples_sha256 != record.samples_sha256
    check_base(half, record, ANY, "adapter")
    check_base(record, half, ANY, "adapter")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1.05)
    with pytest.raises(AdapterRefusedError, match=r"down_proj\.weight: made for a base with other weights"):
        check_base(record_of(model, tokenizer), record, ANY, "adapter")


def test_the_hash_of_a_tokenizer_is_that_of_its_vocabulary(
    bases: dict[str, tuple[Any, Any]], record: BaseRecord, tmp_path: Path
) -> None:
    """Saved again and loaded from there it is the same; with one more token it is not."""
    from transformers import AutoTokenizer

    model, tokenizer = bases["llama"]
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert record_of(model, again) == record
    again.add_tokens(["<|more|>"])
    assert record_of(model, again).tokenizer_sha256 != record.tokenizer_sha256


@pytest.fixture
def four_bit(llama_folder: Path) -> Iterator[Any]:
    """The Llama with 4-bit weights."""
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs the extra 'quantized'")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    with warnings.catch_warnings():  # bitsandbytes looks for kernels that it can do without
        warnings.simplefilter("ignore")
        config = BitsAndBytesConfig(load_in_4bit=True)
        yield AutoModelForCausalLM.from_pretrained(llama_folder, quantization_config=config)


def test_a_quantised_base_takes_the_same_adapters(
    four_bit: Any, bases: dict[str, tuple[Any, Any]], record: BaseRecord, good: Path, tmp_path: Path
) -> None:
    """Its modules have their true sizes, its packed weights are not sampled, and its record still tells the base."""
    quantised = record_of(four_bit, bases["llama"][1])
    assert quantised.quantization == "4bit"
    assert set(quantised.samples) < set(record.samples)
    assert modules_of(four_bit) == modules_of(bases["llama"][0])
    assert "model.layers.0.mlp.up_proj.weight" not in parameters_of(four_bit)
    _, layout, _ = _checked(good, four_bit, quantised)
    assert len(layout.parts) == 14
    check_base(record, quantised, ANY, "adapter")
    check_base(quantised, record, ANY, "adapter")
    _by_peft(bases, "own-mlp", tmp_path)
    with pytest.raises(AdapterRefusedError, match=r"mlp\.\S+: .*quantised"):
        _checked(tmp_path, four_bit, quantised)
