"""Token counts of a call that has ended: as reported, else taken from what the model returned, else estimated.

Knows no queries and no prices, and never runs inside a call of the app: estimating takes time, and a tokenizer of
Hugging Face refuses to be used by two threads at once, so a copy of it counts here.
"""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_index_hybridmem.costs.tokens.providers import HOW_TO_STREAM_USAGE, reports_usage_in_streams
from llama_index_hybridmem.costs.tokens.usage import Usage, estimate_tokens, read_usage, tensor_usage
from llama_index_hybridmem.costs.tracking.running import Call

logger = logging.getLogger(__name__)

Count = Callable[[str], int]

_WRAPPERS = ("query_wrapper_prompt", "system_prompt", "completion_to_prompt")

MESSAGE_TOKENS = 4
"""Of a chat message's frame, by OpenAI's own account of its chat format (cookbook, "How to count tokens")."""


class Counter:
    """Counts tokens.

    Attributes:
        failed: how often a tokenizer raised.
        silent: classes of models whose streams reported none, though they could.

    Args:
        tokenizer: text to tokens, where nobody reports counts; None takes the model's own where it has one, else a
            token for every four bytes (`usage.estimate_tokens`).
    """

    def __init__(self, tokenizer: Callable[[str], Sequence[Any]] | None = None) -> None:
        self._tokenizer = tokenizer
        self._own: weakref.WeakKeyDictionary[Any, Count] = weakref.WeakKeyDictionary()
        self.silent: set[str] = set()
        self.failed = 0

    def __call__(self, call: Call) -> Usage | None:
        """The token counts of a call; None where nothing was received and nobody counted.

        A stream that nobody read and a call that failed before its first token count as nothing: the one asked no
        model, and providers do not charge a request that they refuse.
        """
        return self._usage(call, self._estimated)

    def _usage(self, call: Call, estimate: Callable[[Call], tuple[Usage, bool]]) -> Usage | None:
        reported = reported_usage(call.last)
        if call.last is None and call.status in ("error", "never_consumed"):
            return Usage(0, 0, source="estimated")
        if call.last is None or (reported is not None and call.status == "ok"):
            return reported
        if reported is None and call.streamed and call.status == "ok":
            self._tell(call)
        estimated, is_own = estimate(call)
        if reported is not None:  # of a stream that broke off: a count of its beginning
            return reported if reported.output >= estimated.output else replace(reported, output=estimated.output)
        if is_own and _is_verbatim(call):
            return tensor_usage(getattr(call.last, "raw", None), estimated.input) or estimated
        return estimated

    def _estimated(self, call: Call) -> tuple[Usage, bool]:
        """Count the texts, and say whether the model's own tokenizer did; where a tokenizer fails, by their bytes."""
        try:
            count, is_own = self._count(call.instance)
            return Usage(prompt_tokens(call.prompt, count), count(written(call)), source="estimated"), is_own
        except Exception:  # noqa: BLE001 - a foreign tokenizer may raise anything; the trace is worth more than its count
            if not self.failed:
                logger.warning("a tokenizer failed; tokens are estimated by their bytes instead", exc_info=True)
            self.failed += 1
        return by_bytes(call), False

    def settle(self, call: Call) -> None:
        """Count a call's tokens at once, and let its texts go.

        It runs inside the app's call, so it asks no tokenizer: what nobody reports is estimated by its bytes.
        """
        call.usage = self._usage(call, lambda each: (by_bytes(each), False))
        call.prompt = call.last = None
        call.said.clear()

    def _tell(self, call: Call) -> None:
        """Say once of a model that its streams report no tokens, and what to do."""
        if call.class_name not in self.silent and not reports_usage_in_streams(call.class_name):
            self.silent.add(call.class_name)
            logger.warning(
                "streams of %s report no tokens, so they are estimated; to have them reported, make it with %s",
                call.class_name,
                HOW_TO_STREAM_USAGE,
            )

    def _count(self, model: Any) -> tuple[Count, bool]:
        """What counts for a model, and whether it is the model's own tokenizer."""
        if self._tokenizer is not None:
            tokenizer = self._tokenizer
            return lambda text: len(tokenizer(text)), False
        # not by getattr: of LlamaIndex's OpenAI it is a property that fetches a tokenizer from the network
        own: Any = (getattr(model, "__pydantic_private__", None) or {}).get("_tokenizer")
        if not hasattr(own, "encode"):
            return estimate_tokens, False
        if own not in self._own:
            mine = copy.deepcopy(own)
            self._own[own] = lambda text: len(mine.encode(text))
        return self._own[own], True


def by_bytes(call: Call) -> Usage:
    """Estimate the tokens of a call's texts, without a tokenizer."""
    count = estimate_tokens
    return Usage(prompt_tokens(call.prompt, count), count(written(call)), source="estimated")


def written(call: Call) -> str:
    """What a call has written so far; some streams carry their text in pieces only."""
    return max(answer_text(call.last), "".join(call.said), key=len)


def _is_verbatim(call: Call) -> bool:
    """Whether the model read the prompt as it stands, without a wrapper or system prompt of its own."""
    wrappers = [getattr(call.instance, name, None) for name in _WRAPPERS]
    return bool(call.options.get("formatted")) or all(not each or _changes_nothing(each) for each in wrappers)


def _changes_nothing(wrapper: Any) -> bool:
    """Whether it is what LlamaIndex puts where the app has set none."""
    return (
        getattr(wrapper, "template", None) == "{query_str}"
        or getattr(wrapper, "__name__", "") == "default_completion_to_prompt"
    )


def reported_usage(response: Any) -> Usage | None:
    """What a response says of its own tokens; None where it says nothing."""
    if response is None:
        return None
    extra = getattr(response, "additional_kwargs", None)
    inner = getattr(getattr(response, "message", None), "additional_kwargs", None)
    merged = {**(inner if isinstance(inner, Mapping) else {}), **(extra if isinstance(extra, Mapping) else {})}
    return read_usage(getattr(response, "raw", None), merged)


def prompt_tokens(prompt: Any, count: Count) -> int:
    """Tokens of a text, or of chat messages with their frames."""
    if isinstance(prompt, str):
        return count(prompt)
    return sum(MESSAGE_TOKENS + count(message.content or "") for message in prompt or ())


def answer_text(response: Any) -> str:
    """The text of a completion or a chat answer, with the arguments of its tool calls."""
    message = getattr(response, "message", None)
    if message is None:
        return getattr(response, "text", None) or ""
    calls = (getattr(block, "tool_kwargs", "") for block in message.blocks)
    return f"{message.content or ''}{''.join(str(call) for call in calls)}"
