"""Answers of any architecture are those of transformers' own generate: padded, joined, with prefixes, with windows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from test_engine import admit, answer, held, ids_of, outcome, settled, together

from llama_index_hybridmem.llms.serving.engine import Engine
from llama_index_hybridmem.llms.serving.options import EngineOptions
from llama_index_hybridmem.llms.serving.request import Options, Request, Result

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")), reason="needs the extra 'lora'"
)
WORDS, NEW = 96, 10
LENGTHS = (1, 2, 7, 23, 40, 70, 150)
FULL = ("llama", "qwen2", "qwen3", "gpt2", "opt", "gemma", "neox", "bloom")
WINDOWED = ("mistral", "gemma3")


class Numbers:
    """A tokenizer whose text is the ids themselves."""

    eos_token_id = 1

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """The ids as text."""
        return "".join(f"{one} " for one in ids)


@cache
def model_of(name: str) -> Any:
    """A tiny random model, the same each time; those with a window see 16 tokens, in one layer or in all."""
    import torch
    import transformers as tf

    size = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {**size, "intermediate_size": 64, "num_key_value_heads": 2}
    layers = ["sliding_attention", "full_attention"]
    make: Mapping[str, Callable[[], Any]] = {
        "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**wide)),
        "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**wide)),
        "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(head_dim=8, **wide)),
        "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4)),
        "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(ffn_dim=64, word_embed_proj_dim=32, **size)),
        "gemma": lambda: tf.GemmaForCausalLM(tf.GemmaConfig(head_dim=8, **wide)),
        "neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(intermediate_size=64, **size)),
        "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=2, n_head=4)),
        "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(sliding_window=16, **wide)),
        "gemma3": lambda: tf.Gemma3ForCausalLM(
            tf.Gemma3TextConfig(head_dim=8, sliding_window=16, layer_types=layers, **wide)
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = make[name]()
        for weights in model.parameters():
            weights.data += 0.15 * torch.randn_like(weights)
    model.generation_config.eos_token_id = 1
    return model.eval()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def engine_of(name: str, **settings: Any) -> Iterator[Engine]:
    """An engine on a tiny model."""
    engine = Engine(model_of(name), Numbers(), EngineOptions(**settings))
    try:
        yield engine
    finally:
        engine.close()


def prompt(length: int, start: int = 0) -> tuple[int, ...]:
    """Ids that are none of the end token's."""
    return tuple(2 + (7 * place + 11 * start + length) % (WORDS - 2) for place in range(length))


def asked(ids: tuple[int, ...], new: int = NEW, **kind: Any) -> Request:
    """A greedy request."""
    return Request(ids, Options(max_new_tokens=new), **kind)


@cache
def generated(name: str, ids: tuple[int, ...], new: int = NEW) -> list[int]:
    """What transformers' generate writes."""
    import torch

    given = torch.tensor([ids])
    settings = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        out = model_of(name).generate(given, attention_mask=torch.ones_like(given), **settings)
    found: list[int] = out[0, len(ids) :].tolist()
    return found


@pytest.mark.parametrize("name", FULL + WINDOWED)
def test_tokens_are_those_of_generate(name: str) -> None:
    """Alone, in one batch with gaps on the left, and in one of prompts that begin alike."""
    prompts = [prompt(length) for length in LENGTHS]
    with engine_of(name, prefix_tokens=0) as engine:
        for ids in prompts:
            assert ids_of(answer(engine, asked(ids))) == generated(name, ids)
        for request, result in zip(prompts, together(engine, [asked(ids) for ids in prompts]), strict=True):
            assert ids_of(result) == generated(name, request)
    assert len({tuple(generated(name, ids)) for ids in prompts}) > 4


@pytest.mark.parametrize("name", FULL + WINDOWED)
def test_rows_that_join_and_leave_change_nothing(name: str) -> None:
    """Answers of other lengths, prompts that come while others are answered: each as generate writes it."""
    asks = [(prompt(30, 1), 40), (prompt(3, 2), 5), (prompt(70, 3), 12), (prompt(9, 4), 25), (prompt(1, 5), 3)]
    with engine_of(name, max_batch=3) as engine:
        requests = [asked(ids, new, stream=True) for ids, new in asks]
        admit(engine, requests[0])
        assert settled(lambda: len(requests[0].ticket._pieces) > 2)
        for request in requests[1:]:
            admit(engine, request)
        for (ids, new), request in zip(asks, requests, strict=True):
            assert ids_of(outcome(request)) == generated(name, ids, new)


@pytest.mark.parametrize("name", FULL)
def test_known_prefixes_change_nothing(name: str) -> None:
    """Prompts that go on from earlier ones, alone and together, reuse what was computed and give generate's tokens."""
    head = prompt(60, 6)
    with engine_of(name) as engine:
        first = answer(engine, asked(head))
        assert (ids_of(first), first.reused_tokens) == (generated(name, head), 0)
        again = answer(engine, asked(head))
        assert (ids_of(again), again.reused_tokens) == (generated(name, head), 59)
        longer = (*head, *generated(name, head), *prompt(5, 7))
        found = answer(engine, asked(longer))
        assert (ids_of(found), found.reused_tokens) == (generated(name, longer), 59 + len(generated(name, head)))
        branches = [(*head, *prompt(length, 8)) for length in (1, 4, 9, 30)]
        for ids, result in zip(branches, together(engine, [asked(ids) for ids in branches]), strict=True):
            assert isinstance(result, Result)
            assert (ids_of(result), result.reused_tokens) == (generated(name, ids), 60)
        new = [(*prompt(50, 9), *prompt(length, 10)) for length in (2, 3)]
        for ids, result in zip(new, together(engine, [asked(ids) for ids in new]), strict=True):
            assert ids_of(result) == generated(name, ids)


@pytest.mark.parametrize("name", WINDOWED)
def test_models_with_a_window_reuse_nothing(name: str) -> None:
    """What they forgot cannot be taken up again: no prefix is kept."""
    with engine_of(name) as engine:
        for _ in range(2):
            result = answer(engine, asked(prompt(60, 6)))
            assert (ids_of(result), result.reused_tokens) == (generated(name, prompt(60, 6)), 0)


def test_a_prompt_that_begins_alike_costs_its_end_only() -> None:
    """The model is called for the new tokens, not for the known ones."""
    widths: list[int] = []
    with engine_of("llama") as engine:
        handle = engine.model.get_input_embeddings().register_forward_pre_hook(
            lambda _, inputs: widths.append(inputs[0].shape[1])
        )
        answer(engine, asked(prompt(60, 6)))
        answer(engine, asked((*prompt(60, 6), 5, 6)))
        handle.remove()
    assert [width for width in widths if width > 1] == [60, 2]


def test_low_precision_is_that_of_generate() -> None:
    """In bfloat16 many logits are equal; the same one of them is taken."""
    import copy

    import torch

    model = copy.deepcopy(model_of("llama")).to(torch.bfloat16)
    engine = Engine(model, Numbers())
    for start in range(12):
        given = torch.tensor([prompt(9, start)])
        with torch.inference_mode():
            settings = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
            out = model.generate(given, attention_mask=torch.ones_like(given), **settings)
        assert ids_of(answer(engine, asked(prompt(9, start), 20))) == out[0, 9:].tolist()
    engine.close()


def test_finished_rows_are_not_computed() -> None:
    """A batch is as wide as the answers still under way."""
    rows: list[int] = []
    with engine_of("llama", max_batch=4) as engine:
        requests = [asked(prompt(5, start), 3 * (start + 1)) for start in range(4)]
        lengths = [len(generated("llama", one.prompt, one.options.max_new_tokens)) for one in requests]
        handle = engine.model.get_input_embeddings().register_forward_pre_hook(
            lambda _, inputs: rows.append(inputs[0].shape[0])
        )
        with held(engine):
            for request in requests:
                admit(engine, request)
        for request in requests:
            outcome(request)
        handle.remove()
    assert sum(rows) == sum(lengths)
