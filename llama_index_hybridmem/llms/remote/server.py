"""One OpenAI-compatible model server over HTTP: what it offers, load, unload, and its refusals as our errors.

Knows nothing of prompts, registries or who uses an adapter when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from llama_index_hybridmem.errors import ConfigurationError, RemoteModelError, UnknownAdapterError, told
from llama_index_hybridmem.llms.remote.dialects import Dialect, Post, Served, find_served

if TYPE_CHECKING:
    from openai import OpenAI

_SWITCHED_OFF = (
    "the server has no such call: start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora, "
    "SGLang with --enable-lora"
)


class ModelServer:
    """A server that speaks one dialect.

    Args:
        client: gives the OpenAI client, whose address, key, headers and certificates every call uses.
        dialect: how it is spoken to.
        secrets: what must not stand in any message.
    """

    def __init__(self, client: Callable[[], OpenAI], dialect: Dialect, secrets: Sequence[str] = ()) -> None:
        self._client = client
        self.dialect = dialect
        self._window: int | None = None
        self._secrets = [secret for secret in secrets if len(secret) > 5]  # "none" is a word, not a key

    def models(self) -> list[Served]:
        """What it offers now; empty where the dialect has no list.

        Raises:
            RemoteModelError: it cannot be reached, refuses, or answers something else.
        """
        if not self.dialect.list_path:
            return []
        with self.refusals("its list of models"):
            answer = self._request("GET", self.dialect.list_path)
            return self.dialect.read(json.loads(answer.text))

    def window(self, base_model: str) -> int:
        """Tokens of prompt and answer together, asked once.

        Raises:
            ConfigurationError: it does not say.
            RemoteModelError: as with `models`.
        """
        if self._window is None:
            with self.refusals("its list of models"):
                listing = json.loads(self._request("GET", "/v1/models").text)
            # an adapter's entry says nothing: the base model's counts for all
            windows = [one.window for one in Dialect("v1").read(listing) if one.window and one.parent is None]
            if not windows:
                raise ConfigurationError(
                    f"the server does not say how many tokens {base_model!r} takes: give context_window"
                )
            self._window = min(windows)
        return self._window

    def load(self, name: str, path: str) -> bool:
        """Sees to it that it has an adapter.

        Args:
            name: the adapter's name on the server.
            path: its place as the server sees it; empty if only the server knows.

        Returns:
            Whether this call loaded it; False if it was there, or if the server fetches it by itself.

        Raises:
            RemoteModelError: it cannot, or has another adapter under that name; with what the server says.
            UnknownAdapterError: it has none, and there is no place to load one from.
        """
        if self.dialect.fetches or not self.dialect.list_path:
            return False
        models = self.models()
        if (there := find_served(models, name)) is not None:
            self._check_same(there, path)
            return False
        if not path:
            raise UnknownAdapterError(name, [one.name for one in models if one.parent is not None])
        return self._post(self.dialect.load(name, path), f"loading {name!r} from {path}")

    def unload(self, name: str) -> None:
        """Makes it drop an adapter; one that it does not have is no error.

        Raises:
            RemoteModelError: it refuses or cannot be reached.
        """
        self._post(self.dialect.unload(name), f"unloading {name!r}")

    @contextmanager
    def refusals(self, doing: str) -> Iterator[None]:
        """Turns what the client raises inside into a `RemoteModelError` that says what was being done."""
        import httpx
        import openai

        try:
            yield
        except (openai.OpenAIError, httpx.HTTPError, json.JSONDecodeError) as error:
            self.refuse(error, doing)

    def refuse(self, error: Exception, doing: str) -> NoReturn:
        """Raises our error for one of the client's.

        Raises:
            RemoteModelError: always; without secrets, also in its cause.
        """
        error.args = tuple(self._scrub(str(argument)) for argument in error.args)
        raise RemoteModelError(f"{doing}: {self._scrub(said_by(error))}") from error

    def _scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _check_same(self, there: Served, path: str) -> None:
        # a name with a hash in it names one content; a plain name may stand for anything
        if path and "@" not in there.name and there.root not in (None, path):
            raise RemoteModelError(
                f"the server has another adapter as {there.name!r}: from {there.root}, not {path}; "
                "unload it there, or use an AdapterRegistry, whose names are never reused"
            )

    def _post(self, post: Post, doing: str) -> bool:
        import openai

        with self.refusals(doing):
            try:
                self._request("POST", post.path, post.body)
            except openai.APIStatusError as error:
                if self.dialect.is_duplicate(error.status_code, error.response.text):
                    return False
                if post.path == self.dialect.unload_path and self.dialect.is_unknown(error.status_code, str(error)):
                    return False
                if error.status_code in (404, 405) and '"detail"' in error.response.text:
                    raise RemoteModelError(f"{doing}: {_SWITCHED_OFF}") from error
                raise
        return True

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        client = self._client().with_options(max_retries=0)
        root = str(client.base_url).rstrip("/").removesuffix("/v1")
        if method == "GET":
            return client.get(f"{root}{path}", cast_to=httpx.Response)
        # reading gigabytes from a disk takes longer than an answer may
        timeout = max(client.timeout, 600.0) if isinstance(client.timeout, int | float) else client.timeout
        return client.post(f"{root}{path}", cast_to=httpx.Response, body=body, options={"timeout": timeout})


def said_by(error: Exception) -> str:
    """What went wrong, in the server's words where it has any."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return f"the server says {error.status_code}: {error.response.text.strip() or error.message:.500}"
    cause = error.__cause__
    return told(error) if cause is None else f"{told(error)} ({told(cause)})"
