"""Slots compute what PEFT computes, for every kind of adapter, row by row, and leave the model as it was."""

from __future__ import annotations

import copy
import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llama_index_hybridmem.errors import ConfigurationError, GenerationError
from llama_index_hybridmem.llms.adapters.base_record import modules_of, parameters_of
from llama_index_hybridmem.llms.adapters.files import open_adapter, read_tensors
from llama_index_hybridmem.llms.adapters.layout import Layout, lay_out
from llama_index_hybridmem.llms.serving.slots import BASE, SlotPool

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft")),
    reason="needs the extra 'lora' and PEFT to compare with",
)
WORDS = 96
SIZES = {"vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
QV = ["q_proj", "v_proj"]
LINEAR = "all-linear"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def base(name: str) -> Any:
    """A tiny random model, the same each time; Qwen has biases, GPT-2 Conv1D, OPT flat rows, Gemma a scale."""
    import torch
    import transformers as tf

    wide = {**SIZES, "intermediate_size": 128, "num_key_value_heads": 2}
    make: Mapping[str, Callable[[], Any]] = {
        "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**wide)),
        "tied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(tie_word_embeddings=True, **wide)),
        "qwen": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**wide)),
        "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=WORDS, n_embd=64, n_layer=2, n_head=4)),
        "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(ffn_dim=128, word_embed_proj_dim=64, **SIZES)),
        "gemma": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(head_dim=16, **wide)),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make[name]()
        for weights in model.parameters():  # a norm of ones and a bias of zeros would hide what is done to them
            weights.data += 0.1 * torch.randn_like(weights)
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT asks transformers by a name that is going away, and warns of what the tests want."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Made:
    """A random adapter, and what PEFT computes with it."""

    layout: Layout
    tensors: Mapping[str, Tensor]
    logits: Tensor


def made(name: str, folder: Path, seed: int = 0, **lora: Any) -> Made:
    """An adapter that PEFT made, saved, and answers `prompt()` with."""
    import peft
    import torch

    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "init_lora_weights": False, **lora}
    model = base(name)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        for weights in trained.parameters():
            if weights.requires_grad:
                weights.data += 0.1 * torch.randn_like(weights)
        trained.save_pretrained(folder, save_embedding_layers=False)
        with torch.inference_mode():
            logits = trained(prompt()).logits
    return Made(*read(folder, model), logits)


def read(folder: Path, model: Any) -> tuple[Layout, Mapping[str, Tensor]]:
    """An adapter's files as the pool takes them."""
    files = open_adapter(folder)
    layout = lay_out(files.config, files.shapes, modules_of(model), parameters_of(model), str(folder))
    return layout, read_tensors(files)


def prompt(rows: int = 1) -> Tensor:
    """Equal rows of token ids."""
    import torch

    return torch.tensor([[5, 17, 3, 60, 88, 2, 41]]).expand(rows, -1)


def logits_of(model: Any, pool: SlotPool | None = None, slots: tuple[int, ...] = (BASE,)) -> Tensor:
    """What a model answers, a row a slot."""
    import torch

    with torch.inference_mode():
        if pool is None:
            plain: Tensor = model(prompt(len(slots))).logits
            return plain
        with pool.applied(slots):
            adapted: Tensor = model(prompt(len(slots))).logits
            return adapted


def distance(one: Tensor, two: Tensor) -> float:
    """The largest difference."""
    return float((one.float() - two.float()).abs().max())


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "rank-stabilised": ("llama", {"use_rslora": True}),
    "patterns": ("llama", {"rank_pattern": {"q_proj": 8, "mlp.up_proj": 2}, "alpha_pattern": {"down_proj": 32}}),
    "two modules": ("llama", {"target_modules": QV}),
    "one layer": ("llama", {"target_modules": QV, "layers_to_transform": [1]}),
    "head": ("llama", {"target_modules": ["lm_head"]}),
    "DoRA": ("llama", {"use_dora": True}),
    "DoRA on biases": ("qwen", {"use_dora": True}),
    "DoRA on Conv1D": ("gpt2", {"use_dora": True, "fan_in_fan_out": True}),
    "DoRA on embeddings": ("llama", {"use_dora": True, "target_modules": ["embed_tokens", "q_proj"]}),
    "a head of its own": ("llama", {"modules_to_save": ["lm_head"]}),
    "tied, a head of its own": ("tied", {"modules_to_save": ["lm_head"]}),
    "embeddings of its own": ("llama", {"modules_to_save": ["embed_tokens"]}),
    "norms of its own": ("llama", {"modules_to_save": ["norm", "post_attention_layernorm"]}),
    "a layer of its own": ("qwen", {"modules_to_save": ["k_proj"], "target_modules": QV}),
    "a Conv1D of its own": (
        "gpt2",
        {"modules_to_save": ["c_proj"], "target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    "embeddings": ("llama", {"target_modules": ["embed_tokens", *QV]}),
    "tied embeddings": ("tied", {"target_modules": ["embed_tokens", *QV]}),
    "scaled embeddings": ("gemma", {"target_modules": ["embed_tokens", *QV]}),
    "scaled embeddings of its own": ("gemma", {"modules_to_save": ["embed_tokens"]}),
    "DoRA on scaled embeddings": ("gemma", {"use_dora": True, "target_modules": ["embed_tokens"]}),
    "biases": ("qwen", {}),
    "Conv1D": ("gpt2", {"fan_in_fan_out": True}),
    "flat rows": ("opt", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_peft(kind: str, tmp_path: Path) -> None:
    """Every kind of adapter gives PEFT's own logits, other than the base's, and the base's own come back to the bit."""
    import torch

    name, lora = KINDS[kind]
    adapter, model = made(name, tmp_path, **lora), base(name)
    before = logits_of(model)
    pool = SlotPool(model, slots=2)
    pool.load(1, adapter.layout, adapter.tensors)
    rows = logits_of(model, pool, (1, 1))
    assert distance(adapter.logits, before) > 1e-2
    assert distance(rows, adapter.logits) < 5e-5
    assert torch.equal(logits_of(model, pool), before)
    assert torch.equal(logits_of(model), before)


@pytest.mark.parametrize("name", ["llama", "qwen", "gpt2", "opt", "gemma"])
def test_every_row_of_a_mixed_batch_is_as_alone(name: str, tmp_path: Path) -> None:
    """Adapters of other ranks and modules beside each other and the base: a row is PEFT's, the base's to the bit."""
    import torch

    conv = {"fan_in_fan_out": True} if name == "gpt2" else {}
    some = ["c_attn"] if name == "gpt2" else QV
    wanted: list[dict[str, Any]] = [{}, {"r": 8, "use_rslora": True}, {"r": 2, "target_modules": some}]
    if name in ("llama", "gemma"):
        wanted.append({"target_modules": ["embed_tokens", "q_proj"]})
    adapters = [made(name, tmp_path / str(seed), seed, **one, **conv) for seed, one in enumerate(wanted)]
    model = base(name)
    pool = SlotPool(model, slots=len(adapters))
    for slot, adapter in enumerate(adapters):
        pool.load(slot, adapter.layout, adapter.tensors)
    rows = (BASE, *reversed(range(len(adapters))), BASE, 0)
    plain, mixed = logits_of(model, slots=rows), logits_of(model, pool, rows)
    for place, slot in enumerate(rows):
        if slot == BASE:
            assert torch.equal(mixed[place], plain[place])
        else:
            assert distance(mixed[place], adapters[slot].logits[0]) < 5e-5


def test_bfloat16_is_near_peft(tmp_path: Path) -> None:
    """A base in half precision is changed as PEFT changes it, as far as its digits reach; base rows to the bit."""
    import torch

    adapter, model = made("llama", tmp_path), base("llama").to(torch.bfloat16)
    pool = SlotPool(model, slots=1)
    pool.load(0, adapter.layout, adapter.tensors)
    plain, mixed = logits_of(model, slots=(BASE, BASE)), logits_of(model, pool, (BASE, 0))
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed[0], plain[0])
    assert distance(mixed[1], adapter.logits[0]) < 0.05 * distance(adapter.logits, plain[:1])


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra 'quantized'")
def test_four_bits_are_those_of_peft(tmp_path: Path) -> None:
    """On a 4-bit base, plain and DoRA adapters give what PEFT gives on that base."""
    import peft
    import torch
    import transformers as tf

    adapters = [made("llama", tmp_path / "plain"), made("llama", tmp_path / "dora", use_dora=True)]
    base("llama").save_pretrained(tmp_path / "base")
    settings: Any = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    with quiet():
        model: Any = tf.AutoModelForCausalLM.from_pretrained(
            tmp_path / "base", quantization_config=tf.BitsAndBytesConfig(**settings), dtype=torch.float32
        )
        before = logits_of(model, slots=(BASE, BASE))  # first: from then on, the weights may be packed otherwise
        pool = SlotPool(model, slots=2)
        for slot, adapter in enumerate(adapters):
            pool.load(slot, adapter.layout, adapter.tensors)
        assert torch.equal(logits_of(model, pool, (BASE, 0))[0], before[0])
        for slot, name in enumerate(("plain", "dora")):
            theirs = peft.PeftModel.from_pretrained(unpacked(model), tmp_path / name).eval()
            expected = logits_of(theirs)
            size = distance(expected, before[:1])
            assert distance(logits_of(model, pool, (slot,)), expected) < 0.05 * size  # packed weights compute in bf16
            if name == "plain":
                assert distance(logits_of(model, pool, (BASE, slot))[1:], expected) < 0.05 * size


def unpacked(model: Any) -> Any:
    """The tiny Llama in full precision, with the values that the weights of a quantised one stand for."""
    import torch

    whole = base("llama")
    for name, module in whole.named_modules():
        if isinstance(module, torch.nn.Linear) and not model.get_submodule(name).weight.is_floating_point():
            with torch.inference_mode():
                weight = model.get_submodule(name)(torch.eye(module.in_features)).t()
            module.weight.data = weight.clone()
    return whole


def test_hooks_act_in_the_owners_thread_only(tmp_path: Path) -> None:
    """While one thread serves an adapter, a user's own call of the model in another is the base's, to the bit."""
    import torch

    model, before = base("llama"), logits_of(base("llama"))
    pool = SlotPool(model, slots=2)
    for slot, lora in enumerate(({}, {"modules_to_save": ["lm_head"]})):
        adapter = made("llama", tmp_path / str(slot), **lora)
        pool.load(slot, adapter.layout, adapter.tensors)
        found: list[Tensor] = []
        with pool.applied([slot]):
            thread = threading.Thread(target=lambda to: to.append(logits_of(model)), args=(found,))
            thread.start()
            thread.join()
            with torch.inference_mode():
                assert distance(model(prompt()).logits, adapter.logits) < 5e-5
        assert torch.equal(found[0], before)


def test_an_error_inside_leaves_nothing_applied(tmp_path: Path) -> None:
    """What a failed call had applied does not answer the next one."""
    import torch

    adapter, model = made("llama", tmp_path), base("llama")
    before = logits_of(model)
    pool = SlotPool(model, slots=1)
    pool.load(0, adapter.layout, adapter.tensors)
    with pytest.raises(RuntimeError, match="failed"), pool.applied([0]):
        raise RuntimeError("failed")
    assert torch.equal(logits_of(model), before)


def test_close_takes_every_hook_away(tmp_path: Path) -> None:
    """Afterwards the model has no hooks and no memory of adapters; twice is fine."""
    model = base("llama")
    pool = SlotPool(model, slots=2)
    for slot, lora in enumerate(({}, {"use_dora": True, "target_modules": ["embed_tokens", *QV]})):
        adapter = made("llama", tmp_path / str(slot), **lora)
        pool.load(slot, adapter.layout, adapter.tensors)
    assert any(module._forward_hooks for module in model.modules())
    assert pool.nbytes() > 0
    pool.close()
    pool.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert pool.nbytes() == 0


def test_loading_allocates_nothing_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first adapter makes places for all slots; the next ones, in any slot, are copies into them."""
    import torch

    adapters = [made("llama", tmp_path / str(seed), seed, r=rank) for seed, rank in enumerate((8, 8, 4))]
    pool = SlotPool(base("llama"), slots=50)
    allocated: list[tuple[int, ...]] = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, **kind: (allocated.append(shape), zeros(*shape, **kind))[1])
    pool.load(0, adapters[0].layout, adapters[0].tensors)
    assert {shape[0] for shape in allocated} == {50}
    made_once, taken = len(allocated), pool.nbytes()
    assert made_once == 2 * len(adapters[0].layout.parts)
    for slot in range(1, 50):
        adapter = adapters[slot % 3]
        pool.load(slot, adapter.layout, adapter.tensors)
    assert (len(allocated), pool.nbytes()) == (made_once, taken)


def test_a_higher_rank_leaves_loaded_adapters_right(tmp_path: Path) -> None:
    """Places that are widened keep what lies in them; a lower rank in a slot sees nothing of the higher one before."""
    low, high = made("llama", tmp_path / "low", 1, r=2), made("llama", tmp_path / "high", 2, r=16)
    model = base("llama")
    pool = SlotPool(model, slots=2)
    pool.load(0, low.layout, low.tensors)
    assert distance(logits_of(model, pool, (0,)), low.logits) < 5e-5  # what is prepared for a batch is made anew, too
    pool.load(1, high.layout, high.tensors)
    mixed = logits_of(model, pool, (0, 1))
    assert distance(mixed[:1], low.logits) < 5e-5
    assert distance(mixed[1:], high.logits) < 5e-5
    pool.load(1, low.layout, low.tensors)
    pool.load(0, high.layout, high.tensors)
    mixed = logits_of(model, pool, (0, 1))
    assert distance(mixed[:1], high.logits) < 5e-5
    assert distance(mixed[1:], low.logits) < 5e-5


def test_another_adapter_in_a_slot_is_all_there_is(tmp_path: Path) -> None:
    """Modules, gains and weights of the one before are gone, in every order of exchange."""
    some: list[dict[str, Any]] = [{}, {"target_modules": QV}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}]
    adapters = [made("llama", tmp_path / str(seed), seed, **lora) for seed, lora in enumerate(some)]
    model = base("llama")
    pool = SlotPool(model, slots=1)
    for number in (0, 1, 2, 3, 1, 3, 2, 0, 2, 1):
        pool.load(0, adapters[number].layout, adapters[number].tensors)
        assert distance(logits_of(model, pool, (0,)), adapters[number].logits) < 5e-5


def test_an_exclusive_adapter_beside_another_row_is_an_error(tmp_path: Path) -> None:
    """Not an answer: without its own weights it would be wrong."""
    adapter, model = made("llama", tmp_path, modules_to_save=["lm_head"]), base("llama")
    pool = SlotPool(model, slots=1)
    pool.load(0, adapter.layout, adapter.tensors)
    with pytest.raises(GenerationError, match="exclusive"):
        logits_of(model, pool, (0, BASE))


def test_an_empty_slot_answers_nothing(tmp_path: Path) -> None:
    """A freed slot is an error, not the base and not what lay there."""
    adapter, model = made("llama", tmp_path), base("llama")
    pool = SlotPool(model, slots=1)
    pool.load(0, adapter.layout, adapter.tensors)
    logits_of(model, pool, (0,))
    pool.free(0)
    with pytest.raises(KeyError):
        logits_of(model, pool, (0,))


def test_no_slots_are_refused() -> None:
    """A pool without a slot can load nothing."""
    with pytest.raises(ConfigurationError, match="slots=0"):
        SlotPool(base("llama"), 0)
