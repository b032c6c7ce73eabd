"""What the engine wrote as LlamaIndex responses, JSON-safe; knows no engine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, LogProb
from llama_index_instrumentation import get_dispatcher

from llama_index_hybridmem.events import AdapterFallbackEvent
from llama_index_hybridmem.llms.serving.request import Piece, Request, Result, Token
from llama_index_hybridmem.llms.tool_calls import before_calls, parse_tool_calls
from llama_index_hybridmem.llms.tool_messages import answer_of

dispatcher = get_dispatcher(__name__)


@dataclass
class Responses:
    """Turns the pieces of one answer into responses.

    Args:
        request: what was asked.
        model_name: of the base.
        asked: the adapter as it was asked for; None for the base.
        tokenizer: names tokens.
        tools: names of the tools on offer.
        told: characters of a chat's answer that were told so far.
    """

    request: Request
    model_name: str
    asked: str | None
    tokenizer: Any
    tools: Collection[str] = ()
    told: int = 0

    def completion(self, piece: Piece) -> CompletionResponse:
        """A piece as the answer to a text; the last one has `raw` and `logprobs`."""
        response = CompletionResponse(text=piece.text, delta=piece.delta)
        if piece.result is not None:
            raw = self._raw(piece.result, "")
            response.raw, response.logprobs = raw, self._logprobs(piece.result)
            response.additional_kwargs = _extras(raw)
        return response

    def chat(self, piece: Piece) -> ChatResponse:
        """A piece as the answer to a chat; the last one has `raw`, `logprobs` and tool calls as blocks."""
        if piece.result is None:
            text = before_calls(piece.text) if self.tools else piece.text
            return ChatResponse(message=answer_of(text), delta=self._further(text))
        text, calls = parse_tool_calls(piece.text, self.tools) if self.tools else (piece.text, [])
        raw = self._raw(piece.result, "tool_calls" if calls else "")
        return ChatResponse(
            message=answer_of(text, calls),
            delta=self._further(text),
            raw=raw,
            logprobs=self._logprobs(piece.result),
            additional_kwargs=_extras(raw),
        )

    def _further(self, text: str) -> str:
        """What a text adds to what was told before."""
        told, self.told = self.told, max(self.told, len(text))
        return text[told:]

    def _raw(self, result: Result, finish_reason: str) -> dict[str, Any]:
        """Usage, how it ended, who answered and how sure: numbers and texts only."""
        logprobs = [token.logprob for token in result.tokens]
        margins = [token.margin for token in result.tokens]
        written = len(result.tokens)
        return {
            "usage": {
                "prompt_tokens": result.prompt_tokens,
                "completion_tokens": written,
                "total_tokens": result.prompt_tokens + written,
                "prompt_tokens_details": {"cached_tokens": result.reused_tokens},
            },
            "finish_reason": finish_reason or result.finish_reason,
            "model": self.model_name,
            "adapter": self._adapter(result),
            "logprob_mean": sum(logprobs) / written,
            "logprob_min": min(logprobs),
            "margin_mean": sum(margins) / written,
            "margin_min": min(margins),
            "seed": self.request.options.seed,
        }

    def _adapter(self, result: Result) -> dict[str, Any] | None:
        """Who answered; with `fallback` where it was the base in place of the adapter asked for."""
        if self.asked is None:
            return None
        version = self.request.adapter
        if version is None or result.fallback is not None:
            reason = result.fallback or "unknown"
            dispatcher.event(AdapterFallbackEvent(adapter=self.asked, model=self.model_name, reason=reason))
            return {"asked": self.asked, "name": None, "sha256": None, "fallback": result.fallback}
        return {"asked": self.asked, "name": version.name, "version": version.id, "sha256": version.sha256}

    def _logprobs(self, result: Result) -> list[list[LogProb]]:
        """A list per token: the chosen one first, then the likeliest others as far as asked for."""
        return [[self._logprob(token.id, token.logprob), *self._others(token)] for token in result.tokens]

    def _others(self, token: Token) -> list[LogProb]:
        return [self._logprob(other, logprob) for other, logprob in token.top if other != token.id]

    def _logprob(self, token: int, logprob: float) -> LogProb:
        text = self.tokenizer.decode([token])
        # of half a character there is no text to take the bytes of
        return LogProb(token=text, logprob=logprob, bytes=[] if "\ufffd" in text else list(text.encode("utf-8")))


def _extras(raw: dict[str, Any]) -> dict[str, Any]:
    """Token counts where LlamaIndex's own integrations put them, and the adapter."""
    usage = {name: count for name, count in raw["usage"].items() if isinstance(count, int)}
    return {**usage, "adapter": raw["adapter"]}
