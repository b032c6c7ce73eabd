"""The ways of answering that `lora.py` compares: Hugging Face, PEFT, LlamaIndex and ours; knows no clock.

Every way takes texts and answers each with the same number of tokens, greedily, as a program would that uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from llama_index_hybridmem.llms.adapters.folders import FolderAdapters
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

Texts = Sequence[str]


class Plain:
    """A model as `generate` of transformers runs it, without adapters or with PEFT's."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tokens = tokens

    def __call__(self, texts: Texts, **options: Any) -> list[str]:
        """Answer all texts in one batch; they have equally many tokens, so nothing is padded."""
        ids = torch.tensor([self.tokenizer(text)["input_ids"] for text in texts], device=self.model.device)
        options |= {"attention_mask": torch.ones_like(ids), "max_new_tokens": self.tokens, "do_sample": False}
        with torch.inference_mode():
            written = self.model.generate(input_ids=ids, pad_token_id=0, **options)
        return [str(self.tokenizer.decode(row[ids.shape[1] :])) for row in written]


class Peft:
    """Adapters through PEFT: one active at a time behind a lock, or a name for each row."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int, adapters: dict[str, Path]) -> None:
        from peft import PeftModel

        (first, folder), *rest = adapters.items()
        self.model = PeftModel.from_pretrained(model, str(folder), adapter_name=first)
        for name, folder in rest:
            self.model.load_adapter(str(folder), name)
        self.plain = Plain(self.model, tokenizer, tokens)
        self.lock = threading.Lock()

    def locked(self, texts: Texts, names: Texts) -> list[str]:
        """Answer text after text: take the lock, make the adapter the active one, generate."""
        answers = []
        for text, name in zip(texts, names, strict=True):
            with self.lock:
                if self.model.active_adapter != name:
                    self.model.set_adapter(name, inference_mode=True)
                answers += self.plain([text])
        return answers

    def named(self, texts: Texts, names: Texts) -> list[str]:
        """Answer all texts in one batch, with an adapter for each row."""
        return self.plain(texts, adapter_names=list(names))


class Ours:
    """Adapters through `LoraHuggingFaceLLM`; nothing is reused from one call to the next."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int, adapters: dict[str, Path], slots: int) -> None:
        self.adapters = FolderAdapters(adapters)
        self.llm = LoraHuggingFaceLLM(
            model=model,
            tokenizer=tokenizer,
            adapters=self.adapters,
            max_new_tokens=tokens,
            slots=slots,
            prefix_tokens=0,
        )

    def one(self, text: str, name: str | None = None, **options: Any) -> Any:
        """Answer one text."""
        return self.llm.complete(text, formatted=True, adapter=name, **options)

    def sequential(self, texts: Texts, names: Sequence[str | None]) -> list[str]:
        """Answer text after text."""
        return [self.one(text, name).text for text, name in zip(texts, names, strict=True)]

    def together(self, texts: Texts, names: Sequence[str | None], **options: Any) -> list[Any]:
        """Answer all texts, each asked for by a thread of its own."""
        return at_once([lambda t=t, n=n: self.one(t, n, **options) for t, n in zip(texts, names, strict=True)])


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run calls on a thread each, let go together; their results in order."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def llamaindex(model: Any, tokenizer: Any, tokens: int) -> Callable[[str], str]:
    """Give LlamaIndex's own HuggingFaceLLM; it has no adapters."""
    from llama_index.llms.huggingface import HuggingFaceLLM

    llm = HuggingFaceLLM(
        model=model,
        tokenizer=tokenizer,
        context_window=2048,
        max_new_tokens=tokens,
        generate_kwargs={"do_sample": False, "pad_token_id": 0},
    )
    return lambda text: llm.complete(text, formatted=True).text


def merged(model: Any, tokenizer: Any, tokens: int, folder: Path) -> Plain:
    """Give a model with one adapter merged into its weights: as fast as the base, and only that adapter."""
    from peft import PeftModel

    return Plain(PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval(), tokenizer, tokens)
