"""Our own engine behind the test server: a real model, real adapters, real batches that mix them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.files import AdapterFiles
from llama_index_hybridmem.llms.adapters.folders import FolderAdapters
from llama_index_hybridmem.llms.adapters.version import AdapterVersion
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from servers.openai_server import Answer, Prompt, Token


class EngineBackend:
    """A `LoraHuggingFaceLLM` that is given its adapters while it runs.

    As vLLM, it takes an adapter of another base without a word, and answers garbage with it.

    Args:
        folder: of the base model.
    """

    def __init__(self, folder: Path) -> None:
        self._known: dict[str, tuple[FolderAdapters, AdapterVersion]] = {}
        self._llm = LoraHuggingFaceLLM.from_pretrained(str(folder), adapters=self, max_new_tokens=32)
        self.window = self._llm.metadata.context_window

    def load(self, path: str) -> object:
        """An adapter's folder, called by its hash."""
        if not (Path(path) / "adapter_config.json").is_file():
            raise FileNotFoundError(path)
        folders = FolderAdapters({"loaded": path})
        version = folders.get("loaded")
        self._known[version.id] = folders, version
        return version.id

    def get(self, reference: str) -> AdapterVersion:
        """What the engine asks for."""
        return self._known[reference][1]

    def names(self) -> list[str]:
        """What was loaded."""
        return sorted(self._known)

    def verify(self, version: AdapterVersion) -> AdapterFiles:
        """The version's files."""
        return self._known[version.id][0].verify(version)

    def answer(self, prompt: Prompt, adapter: object | None, options: Mapping[str, Any]) -> Answer:
        """Greedy unless the options say otherwise."""
        spoken = {name: options.get(name) for name in ("max_tokens", "temperature", "top_p", "seed", "stop")}
        try:
            if isinstance(prompt, str):
                response: Any = self._llm.complete(prompt, formatted=True, adapter=adapter, **spoken)
            else:
                messages = [ChatMessage(role=one["role"], content=one["content"]) for one in prompt]
                response = self._llm.chat(messages, adapter=adapter, **spoken)
        except AdapterRefusedError:
            return Answer([Token("zx qq zx", -9.0)], 1)
        text = response.text if isinstance(prompt, str) else response.message.content
        return Answer(
            _tokens(text, response.logprobs), response.raw["usage"]["prompt_tokens"], response.raw["finish_reason"]
        )

    def close(self) -> None:
        """Stops the engine."""
        self._llm.close()


def _tokens(text: str, logprobs: Any) -> list[Token]:
    """Pieces that add up to the text: what the tokens say as far as it goes, then the rest."""
    found, rest = [], text
    for chosen, *_ in logprobs:
        piece = chosen.token if rest.startswith(chosen.token) else rest[: len(chosen.token)]
        rest = rest.removeprefix(piece)
        found.append(Token(piece, chosen.logprob))
    return [*found, Token(rest, 0.0)] if rest else found
