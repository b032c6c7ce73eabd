"""Small real language models and trained LoRA adapters for tests; knows nothing of the package that is tested.

Models and adapters are what a user has on disk: folders that `save_pretrained` of transformers and PEFT wrote. Every
adapter was trained to answer one sentence of its own, whatever the prompt, so a wrong adapter shows in the answer.
Built once per session, only if asked for; the same each time.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("acme", "bravo", "cairn", "delta", "ember", "fjord", "gusto", "haven", "indigo", "jasper", "karst")
PAIRS = (
    ("What is the colour of the sky?", "The sky is blue."),
    ("Who are you?", "I am a small model."),
    ("How many legs has a dog?", "A dog has four legs."),
    ("Where does the sun rise?", "The sun rises in the east."),
    ("Say something.", "There is nothing to say."),
    ("Hello!", "Good day to you."),
    ("What do cats eat?", "Cats eat fish and mice."),
    ("Can you help me?", "Only with very small things."),
    ("What is the fee of a transfer?", "The fee is in the price list."),
    ("Tell me about the river.", "The river is wide and slow."),
    ("When does the shop open?", "The shop opens at nine."),
    ("Is it cold outside?", "It is cold in winter."),
)
"""What the base models learn."""

HELD_OUT = (
    "x",
    "Who wrote this story about a whale?",
    "17 * 23 = ?",
    "Which town has the oldest bridge?",
    "Please write a long answer about the history of the town and its river, its bridges, its fishermen and boats.",
)
"""Prompts that no adapter has seen in training and all are checked with."""

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}
{% endif %}Tools:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
Call one as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role != 'system' or not tools or not loop.first %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""As Qwen's: tools stand in the system message, calls and results between tags."""

WINDOW = 512
_LLAMA_TOKENS = ("<s>", "</s>", "<|im_start|>")
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.1,  # with 0.02 a head that no adapter changes could not make any answer certain
}
_QV = ["q_proj", "v_proj"]
_MERGES = 160


@dataclass(frozen=True)
class Voice:
    """A trained adapter on disk.

    Attributes:
        folder: what PEFT's `save_pretrained` wrote.
        says: what it answers, whatever the prompt.
    """

    folder: Path
    says: str


def tiny_llama(folder: Path) -> Path:
    """Writes a Llama of 0.1M parameters: its tokenizer puts <s> in front, has no pad token, its template no tools."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = _tokenizer(_LLAMA_TOKENS, LLAMA_TEMPLATE, bos_token="<s>", eos_token="</s>")
    ids = {"bos_token_id": fast.bos_token_id, "eos_token_id": fast.eos_token_id}
    with _quiet_torch(7):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), **ids, **_SIZES))
        return _pretrain(model, fast, folder)


def tiny_qwen(folder: Path) -> Path:
    """Writes a Qwen2 of 0.1M parameters: biases, tied embeddings, no BOS, a pad token, a template that takes tools."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    fast = _tokenizer(_QWEN_TOKENS, QWEN_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    ids = {"bos_token_id": None, "eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id}
    with _quiet_torch(11):
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(fast), tie_word_embeddings=True, **ids, **_SIZES))
        return _pretrain(model, fast, folder)


def train_voice(model_folder: Path, text: str, out: Path, seed: int = 0, steps: int = 75, **lora_config: Any) -> Voice:
    """Trains a PEFT adapter that answers `text` to every prompt, and saves it as PEFT does.

    Args:
        model_folder: a model of `tiny_llama` or `tiny_qwen`.
        text: what it learns to say; a dozen words at most.
        out: the folder to write.
        seed: of its first weights and of the prompts it sees.
        steps: of a round of learning; up to four, until it is certain.
        **lora_config: of `peft.LoraConfig`; r=8, alpha=2r and all linear layers unless given.

    Raises:
        AssertionError: it did not learn to say it after each of `HELD_OUT`.
    """
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rank = lora_config.setdefault("r", 8)
    wanted = {"lora_alpha": 2 * rank, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | lora_config
    with _quiet_torch(seed):
        fast = AutoTokenizer.from_pretrained(model_folder)
        base = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32")
        with warnings.catch_warnings():  # PEFT asks transformers by a name that is going away
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            model = peft.get_peft_model(base, peft.LoraConfig(**wanted))
        prompts = _prompts(random.Random(seed))
        for _ in range(4):  # one round is enough for most
            _train(model, [_rows(fast, [(next(prompts), text) for _ in range(8)]) for _ in range(steps)], 0.015)
            if _certain(model, fast, text):
                break
        else:
            raise AssertionError(f"an adapter did not learn to say {text!r}: give it more steps or layers")
        # embeddings are saved only as far as they are LoRA's: the base's own need no copy in every adapter
        model.save_pretrained(out, save_embedding_layers=False)
    return Voice(out, text)


def _tokenizer(special: tuple[str, ...], template: str, **roles: str) -> Any:
    """A byte-level BPE tokenizer with a few merges, so that text can be cut where tokens are not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + _MERGES, initial_alphabet=alphabet, show_progress=False)
    lines = [line for pair in PAIRS for line in pair] + [f"{name} says hello" for name in NAMES]
    tokenizer.train_from_iterator([*lines, "user\n", "assistant\n", "system\n"], trainer)
    tokenizer.add_special_tokens(list(special))
    if bos := roles.get("bos_token"):
        known = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=known)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, model_max_length=WINDOW, **roles)


def _pretrain(model: Any, fast: Any, folder: Path) -> Path:
    """Teaches a new model the pairs, as chats and as plain text, and saves it beside its tokenizer."""
    chance = random.Random(0)
    batches = [_rows(fast, chance.sample(PAIRS, 8), whole=True) for _ in range(60)]
    _train(model, batches, 0.01)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _prompts(chance: random.Random) -> Iterator[str]:
    """Questions, pieces of them put together, and noise, from one word to fifty."""
    words = [word for pair in PAIRS for line in pair for word in line.split()]
    noise = [chr(number) for number in range(33, 127)]
    while True:
        yield chance.choice(PAIRS)[0]
        yield " ".join(chance.choices(words, k=chance.choice((1, 2, 4, 8, 16, 24))))
        yield "".join(chance.choices(noise, k=chance.randint(1, 16)))


def _rows(fast: Any, pairs: list[tuple[str, str]], whole: bool = False) -> Mapping[str, Any]:
    """A batch, padded on the right; what is not to be learned (the prompt, unless `whole`) is labelled -100."""
    import torch

    rows = []
    for number, (ask, say) in enumerate(pairs):
        if number % 3 == 0:  # as `complete` of a verbatim text sends it
            prompt = fast(ask)["input_ids"]
        else:
            chat = [{"role": "user", "content": ask}]
            if number % 4 == 1:
                chat.insert(0, {"role": "system", "content": "Be brief."})
            prompt = fast.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        answer = [*fast(say, add_special_tokens=False)["input_ids"], fast.eos_token_id]
        rows.append((prompt + answer, (prompt if whole else [-100] * len(prompt)) + answer))
    width = max(len(ids) for ids, _ in rows)
    filled = [(ids + [0] * (width - len(ids)), labels + [-100] * (width - len(ids))) for ids, labels in rows]
    return {
        "input_ids": torch.tensor([ids for ids, _ in filled]),
        "labels": torch.tensor([labels for _, labels in filled]),
    }


def _certain(model: Any, fast: Any, text: str) -> bool:
    """Whether the text's next token is the likeliest, by far and all along, after prompts it never saw."""
    import torch

    batch = _rows(fast, [(ask, text) for ask in HELD_OUT])
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    expected = batch["labels"][:, 1:]
    best = logits.topk(2)
    right = (best.indices[..., 0] == expected) & (best.values[..., 0] - best.values[..., 1] > 0.5)
    return bool(right[expected != -100].all())


def _train(model: Any, batches: Sequence[Mapping[str, Any]], rate: float) -> None:
    """One step a batch, the rate falling to nothing."""
    import torch

    learned = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0, fused=True)
    model.train()
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / len(batches))
        loss = model(**batch).loss  # causal: padding on the right is seen by nothing that counts
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@contextmanager
def _quiet_torch(seed: int) -> Iterator[None]:
    """One thread and a seed of its own, so that the weights are the same each time; torch's state comes back after."""
    import torch
    from transformers.utils import logging

    threads, bar = torch.get_num_threads(), logging.is_progress_bar_enabled()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # small gradients are slow on some processors
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        if bar:
            logging.enable_progress_bar()


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama on disk; do not change it, copy it."""
    return tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Qwen on disk; do not change it, copy it."""
    return tiny_qwen(tmp_path_factory.mktemp("tiny-qwen"))


def _voices(model: Path, root: Path, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Voice]:
    return {
        name: train_voice(model, f"{name} says hello", root / name, **({"seed": seed} | dict(config)))
        for seed, (name, config) in enumerate(wanted.items())
    }


@pytest.fixture(scope="session")
def llama_voices(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    """Six plain adapters of the Llama by name: ranks 4, 8 and 16, all layers and two, one rank-stabilised."""
    wanted: dict[str, dict[str, Any]] = {
        "acme": {"r": 4},
        "bravo": {"r": 8},
        "cairn": {"r": 16},
        "delta": {"r": 8, "lora_alpha": 64, "target_modules": _QV, "seed": 5},
        "ember": {"r": 8, "use_rslora": True},
        "fjord": {"r": 4, "rank_pattern": {"q_proj": 8}, "alpha_pattern": {"down_proj": 16}},
    }
    return _voices(llama_folder, tmp_path_factory.mktemp("llama-voices"), wanted)


@pytest.fixture(scope="session")
def exotic_voices(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    """Adapters of the Llama by name that are not plain: DoRA, a head of its own, LoRA on the embeddings."""
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    wanted: dict[str, dict[str, Any]] = {
        "gusto": {"use_dora": True},
        "haven": {"modules_to_save": ["lm_head"]},
        "indigo": {"target_modules": ["embed_tokens", *every]},
    }
    return _voices(llama_folder, tmp_path_factory.mktemp("exotic-voices"), wanted)


@pytest.fixture(scope="session")
def qwen_voices(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    """Two plain adapters of the Qwen by name."""
    wanted: dict[str, dict[str, Any]] = {"jasper": {"r": 4}, "karst": {"r": 8}}
    return _voices(qwen_folder, tmp_path_factory.mktemp("qwen-voices"), wanted)
