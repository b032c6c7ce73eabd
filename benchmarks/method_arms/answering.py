"""Has a trained model answer, in the process that it is called in: tickets and probes; knows what is right of none.

Adapters and whole models are served by `LoraHuggingFaceLLM`. Virtual tokens are not: they are put before the embedded
prompt, and transformers' ``generate`` answers. PEFT's own leaves the padding of a batch between the two, and ignores
positions, so that an answer would depend on its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.general import SKILLS, probes
from llama_index_hybridmem.training.probes import Probe
from llama_index_hybridmem.training.recipe import Recipe
from method_arms.costs import BASE, is_bf16

MAX_NEW_TOKENS = {"tickets": 48, "probes": 32}
"""The longest ticket has 36 tokens."""
HARM, HELP = "declining harm", "helping (over-refusal)"
_BATCH = 8


def asked_probes(each: int | None) -> list[Probe]:
    """Give probes of all skills, safety in its two halves: who declines everything is right in one of them.

    Args:
        each: of a skill, spread evenly; None for all.
    """
    found = []
    for skill in SKILLS:
        of_skill = [probe for probe in probes() if probe.skill == skill]
        step = 1 if each is None else max(1, len(of_skill) // each)
        found += [_halved(of_skill[place], 2 * place >= len(of_skill)) for place in range(0, len(of_skill), step)]
    return found


def _halved(probe: Probe, is_harmless: bool) -> Probe:
    """The second half of the safety probes are harmless questions that sound otherwise."""
    skill = (HELP if is_harmless else HARM) if probe.skill == "safety" else probe.skill
    return Probe(skill, probe.example, probe.judge, probe.chance)


def answered(weights: Path | None, method: str, parts: dict[str, list[Example]]) -> dict[str, Any]:
    """Ask all parts.

    Args:
        weights: the adapter's or model's folder; None: the base answers.
        method: of `Recipe`.
        parts: name, as in `MAX_NEW_TOKENS`, to examples.

    Returns:
        plain JSON types: ``path`` (how the answers were got), ``seconds`` of them all, and each part's answers.
    """
    import torch

    torch.set_flush_denormal(True)
    path, ask = _with_virtual_tokens(weights) if weights and method == "prompt" else _served(weights, method)
    began = time.perf_counter()
    said = {name: ask(examples, MAX_NEW_TOKENS[name]) for name, examples in parts.items()}
    return {"path": path, "seconds": round(time.perf_counter() - began, 1), **said}


def _served(weights: Path | None, method: str) -> tuple[str, Any]:
    from llama_index_hybridmem.training.asking import answers
    from llama_index_hybridmem.training.measuring import opened

    dtype = "bfloat16" if is_bf16() else "float32"
    is_whole = method == "full"
    adapters = {} if weights is None or is_whole else {"trained": weights}
    llm = opened(weights if weights is not None and is_whole else BASE, adapters, dtype=dtype)
    adapter = "trained" if adapters else None
    how = "adapter on the base" if adapters else "its own model folder" if weights else "the base"
    if method == "qlora":
        how += ", which is not in 4 bits here"

    def ask(examples: Sequence[Example], most: int) -> list[str]:
        return answers(llm, examples, max_new_tokens=most, adapter=adapter)

    return f"LoraHuggingFaceLLM, {how}, {dtype}", ask


def _with_virtual_tokens(weights: Path) -> tuple[str, Any]:
    import torch
    from peft import PeftModel

    from llama_index_hybridmem.training.bases import open_base, without_others_news

    base = open_base(BASE, Recipe(method="prompt"))
    dtype = torch.bfloat16 if is_bf16() else torch.float32
    with without_others_news():
        model = PeftModel.from_pretrained(base.model, str(weights)).to(dtype).eval()
    if torch.cuda.is_available():
        model = model.cuda()
    plain = model.get_base_model()
    virtual = model.get_prompt(batch_size=1)[0].detach().to(dtype)

    def ask(examples: Sequence[Example], most: int) -> list[str]:
        said: list[str] = []
        for start in range(0, len(examples), _BATCH):
            said += _generated(plain, base.tokenizer, virtual, examples[start : start + _BATCH], most)
        return said

    return f"virtual tokens before the embedded prompt, transformers' generate, {str(dtype).rpartition('.')[2]}", ask


def _generated(model: Any, tokenizer: Any, virtual: Any, examples: Sequence[Example], most: int) -> list[str]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    turns = [[dict(turn) for turn in each.prompt] for each in examples]
    texts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
    ids = [tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0] for text in texts]
    with torch.inference_mode():
        embed = model.get_input_embeddings()
        rows = [torch.cat([virtual, embed(each.to(model.device))]) for each in ids]
        found = model.generate(
            inputs_embeds=pad_sequence(rows, batch_first=True, padding_side="left"),
            attention_mask=pad_sequence([row.new_ones(len(row)) for row in rows], True, padding_side="left").long(),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    return [str(each).strip() for each in tokenizer.batch_decode(found, skip_special_tokens=True)]
