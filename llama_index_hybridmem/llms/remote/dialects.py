"""How each family of model servers is told which adapter answers; knows no HTTP, no adapter's files and no threads.

What stands here was read in the servers' own documentation and source: vLLM (`entrypoints/openai/models/serving.py`),
SGLang (`entrypoints/http_server.py`, `openai/serving_base.py`), TGI (`router/src/server.rs`), LoRAX
(`reference/openai_api`, `router/src/lib.rs`), llama.cpp (`tools/server/README.md`, `server-context.cpp`), Ray Serve LLM
(`user-guides/multi-lora`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError, RemoteModelError

_DUPLICATE = ("already been loaded", "already loaded", "already exists")
_UNKNOWN = ("not loaded", "not found", "does not exist", "cannot be found", "never been loaded")


@dataclass(frozen=True)
class Served:
    """One model that a server offers.

    Attributes:
        name: what a request calls it.
        parent: the base model's name if it is an adapter, else None.
        root: where the server has its files from; None if it does not say.
        window: tokens of prompt and answer together; None if it does not say (vLLM says so of base models only).
        number: llama.cpp's id of the adapter.
    """

    name: str
    parent: str | None = None
    root: str | None = None
    window: int | None = None
    number: int | None = None


@dataclass(frozen=True)
class Wording:
    """What a request says in order to be answered by one adapter, or by the base.

    Attributes:
        model: the request's ``model``.
        extra_body: further keys of its body.
    """

    model: str
    extra_body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Post:
    """One call that changes what a server has loaded.

    Attributes:
        path: below the server's root, not below ``/v1``.
        body: JSON.
    """

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Dialect:
    """One family of servers.

    Attributes:
        name: as `dialect_of` takes it.
        pattern: the request's ``model`` for an adapter, of ``{base}`` and ``{name}``; ``{path}`` where the server is
            told a place instead of a name.
        base: the request's ``model`` for the base model.
        extra: further keys of the body with every request for an adapter.
        load_path: where it is told to load an adapter; empty if it cannot be at run time.
        unload_path: where it is told to unload one.
        list_path: where it lists the adapters it has; empty if it does not list them.
        fetches: whether it loads an adapter by itself when a request first names it.
        start_up: how it is started with an adapter, for messages.
    """

    name: str
    pattern: str = "{name}"
    base: str = "{base}"
    extra: Mapping[str, Any] = field(default_factory=dict)
    load_path: str = ""
    unload_path: str = ""
    list_path: str = "/v1/models"
    fetches: bool = False
    start_up: str = ""

    @property
    def loads(self) -> bool:
        """Whether adapters can be loaded and unloaded while it runs."""
        return bool(self.load_path)

    @property
    def by_number(self) -> bool:
        """Whether a request names adapters by their numbers (llama.cpp)."""
        return self.list_path == "/lora-adapters"

    def wording(self, base: str, adapter: str | None, path: str = "", number: int | None = None) -> Wording:
        """What a request has to say.

        Args:
            base: the base model's name on the server.
            adapter: the adapter's name on the server; None for the base model itself.
            path: the adapter's place as the server sees it, for those that are told places.
            number: the adapter's number, for those that count them.

        Raises:
            ConfigurationError: a number or a place is needed and missing.
        """
        if self.by_number:
            return Wording(base, {"lora": _scales(adapter, number)})
        if adapter is None:
            return Wording(self.base.format(base=base))
        if "{path}" in self.pattern and not path:
            return Wording(adapter)  # a name on the hub: the server's own default
        return Wording(self.pattern.format(base=base, name=adapter, path=path), self.extra)

    def load(self, name: str, path: str) -> Post:
        """The call that loads an adapter.

        Raises:
            RemoteModelError: this server cannot load adapters while it runs.
        """
        if not self.loads:
            raise RemoteModelError(
                f"the server has no adapter {name!r}, and {self.name} cannot load one while it runs: "
                f"restart it with {self.start_up.format(name=name, path=path)}"
            )
        return Post(self.load_path, {"lora_name": name, "lora_path": path})

    def unload(self, name: str) -> Post:
        """The call that unloads an adapter.

        Raises:
            RemoteModelError: this server cannot unload adapters while it runs.
        """
        if not self.unload_path:
            raise RemoteModelError(f"{self.name} cannot unload {name!r} while it runs")
        return Post(self.unload_path, {"lora_name": name})

    def read(self, listing: Any) -> list[Served]:
        """The models in what the server answers at `list_path`.

        Args:
            listing: parsed JSON.

        Raises:
            RemoteModelError: it is not such a list.
        """
        try:
            if self.by_number:
                return [_numbered(entry) for entry in listing]
            return [_listed(entry) for entry in listing["data"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RemoteModelError(f"{self.name} does not list its models as expected: {listing!r:.200}") from error

    @staticmethod
    def is_duplicate(status: int, text: str) -> bool:
        """Whether a load was refused because that name is loaded already: 400 with vLLM and SGLang."""
        return status == 400 and any(words in text.lower() for words in _DUPLICATE)

    @staticmethod
    def is_unknown(status: int, text: str) -> bool:
        """Whether a request was refused because the server has no such adapter: vLLM says 404, SGLang 400 or 500."""
        return status == 404 or (status in (400, 500) and any(words in text.lower() for words in _UNKNOWN))


DIALECTS: Mapping[str, Dialect] = {
    "vllm": Dialect("vllm", load_path="/v1/load_lora_adapter", unload_path="/v1/unload_lora_adapter"),
    "sglang": Dialect(
        "sglang", pattern="{base}:{name}", load_path="/load_lora_adapter", unload_path="/unload_lora_adapter"
    ),
    "lorax": Dialect("lorax", pattern="{path}", base="", extra={"adapter_source": "local"}, list_path="", fetches=True),
    "tgi": Dialect("tgi", base="tgi", list_path="", start_up="LORA_ADAPTERS={name}={path}"),
    "ray": Dialect("ray", pattern="{base}:{name}", fetches=True),
    "llama.cpp": Dialect("llama.cpp", list_path="/lora-adapters", start_up="--lora {name}.gguf"),
}


def dialect_of(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in DIALECTS:
        raise ConfigurationError(f"no dialect {name!r}; known: {', '.join(DIALECTS)}")
    return DIALECTS[name]


def seen_by_server(path: str, load_paths: Mapping[str, str]) -> str:
    """A local path as the server sees it.

    Args:
        path: local, with forward slashes.
        load_paths: local folder to the same folder on the server; the longest that fits counts, and none fits means
            that both see the same files.
    """
    for local in sorted((folder.rstrip("/") for folder in load_paths), key=len, reverse=True):
        if path == local or path.startswith(f"{local}/"):
            there = load_paths.get(local, load_paths.get(f"{local}/", ""))
            return there.rstrip("/") + path[len(local) :]
    return path


def find_served(served: Sequence[Served], *names: str) -> Served | None:
    """The adapter of the first of these names that the server has; files count by their name without its suffix."""
    for name in names:
        for one in served:
            if one.name == name:
                return one
    return None


def _scales(adapter: str | None, number: int | None) -> list[dict[str, Any]]:
    # llama.cpp takes an empty list for "as the server was started", which is every adapter at once. A list that names
    # one adapter switches all others off, so the base model is asked for by naming one with scale 0.
    if adapter is None:
        return [{"id": 0, "scale": 0.0}]
    if number is None:
        raise ConfigurationError(f"llama.cpp knows adapters by number, and that of {adapter!r} is not known")
    return [{"id": number, "scale": 1.0}]


def _listed(entry: Mapping[str, Any]) -> Served:
    window = entry.get("max_model_len")
    return Served(
        name=str(entry["id"]),
        parent=entry.get("parent") or None,
        root=entry.get("root") or None,
        window=int(window) if window else None,
    )


def _numbered(entry: Mapping[str, Any]) -> Served:
    path = str(entry["path"])
    stem = path.replace("\\", "/").rpartition("/")[2].removesuffix(".gguf")
    return Served(stem, parent="", root=path, number=int(entry["id"]))
