"""Asks a model a list of prompts and gives its answers in order; knows no scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llama_index.core.llms import LLM, ChatMessage

from llama_index_hybridmem.example import Example

AT_ONCE = 16
"""Prompts in flight: twice the rows that an engine computes together, so that a free place is soon taken."""
MAX_NEW_TOKENS = 32
"""Of an answer; base models run on, and what follows a short answer is not looked at."""

Done = Callable[[int, int], None]
"""(answers that are there, of how many)."""


def answers(
    llm: LLM,
    examples: Sequence[Example],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    done: Done | None = None,
    **options: Any,
) -> list[str]:
    """Ask for each example's completion, at the likeliest token each time.

    Args:
        llm: any chat model of LlamaIndex; a `LoraHuggingFaceLLM` computes many prompts together.
        examples: whose prompts are asked.
        max_new_tokens: of each answer.
        done: told after each answer.
        **options: of each call, such as ``adapter``.

    Raises:
        GenerationError: the model failed.
    """

    def ask(example: Example) -> str:
        turns = [ChatMessage(role=turn["role"], content=turn["content"]) for turn in example.prompt]
        reply = llm.chat(turns, max_new_tokens=max_new_tokens, temperature=0.0, **options)
        return reply.message.content or ""

    found = []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hybridmem-asking") as pool:
        for answer in pool.map(ask, examples):
            found.append(answer)
            if done is not None:
                done(len(found), len(examples))
    return found
