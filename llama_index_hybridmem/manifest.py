"""What a store on disk says of itself: encoder, cutting, language, versions; knows no store and opens none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .disk import atomic_write_text
from .errors import DISTRIBUTION, ConfigurationError, StoreDamagedError, StoreMismatchError

FORMAT = 1
FILE = "manifest.json"
GRAPH = "graph.sqlite"
VECTOR = "vector"
_TENANT = re.compile(r"[^/\\\x00]{1,128}")
_PLAIN = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Manifest:
    """The choices a store was built with; they hold for as long as it lives.

    Attributes:
        encoder: what `encoder_identity` says of the embedding model.
        language: of the keyword memory's stemmer and stop words.
        chunk_tokens: most tokens a node has, None where the caller brought transformations or nodes.
        use_titles: whether titles are names in the graph.
        versions: of this package and of the engines, when the store was made.
        served: the memories ("vector", "graph") that do not lie in the folder but where the app says, and the names of
            collection and graph there.
        format: of this file.
    """

    encoder: dict[str, Any]
    language: str = "english"
    chunk_tokens: int | None = 200
    use_titles: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    served: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note the versions at hand when none are given."""
        if not self.versions:
            object.__setattr__(self, "versions", installed_versions())

    def write(self, folder: Path) -> None:
        """Write it into a store's folder, atomically."""
        content = asdict(self)
        if not self.served:  # as it is for most, and for versions that know no servers
            del content["served"]
        atomic_write_text(folder / FILE, json.dumps(content, indent=2, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store.

        Raises:
            ConfigurationError: there is no store in the folder.
            StoreDamagedError: the file is not what we write.
            StoreMismatchError: written by a later version.
        """
        place = folder / FILE
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            found = cls(**content)
            found._check_kinds()
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"no store in {folder} (no {FILE}); make one with HybridMemoryIndex.from_documents"
            ) from error
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise StoreDamagedError(
                f"{place} cannot be read: {error}; restore it from a copy, or ingest anew"
            ) from error
        if found.format != FORMAT:
            raise StoreMismatchError(f"{place} has format {found.format}, this version reads {FORMAT}")
        return found

    def _check_kinds(self) -> None:
        tokens = self.chunk_tokens
        whole = tokens is None or (type(tokens) is int and tokens > 0)
        if not (isinstance(self.encoder, dict) and isinstance(self.language, str) and whole):
            raise ValueError("a value of the wrong kind")

    def check_encoder(self, encoder: dict[str, Any], folder: Path) -> None:
        """Refuse another encoder than the store was built with: its vectors would not be comparable.

        Raises:
            StoreMismatchError: names both.
        """
        if encoder != self.encoder:
            raise StoreMismatchError(
                f"{folder} was built with the encoder {self.encoder}, not {encoder}; "
                "open it with that one, or ingest anew"
            )

    def check_served(self, served: Mapping[str, str], folder: Path) -> None:
        """Refuse other stores on servers than the index was made with: the rest would lie in two places.

        Raises:
            ConfigurationError: names both.
        """
        if dict(served) != self.served:
            raise ConfigurationError(
                f"{folder} was made with {_listed(self.served)}, not with {_listed(served)}; open it with the same"
            )


def _listed(served: Mapping[str, str]) -> str:
    return " and ".join(f"{memory}_store {name!r}" for memory, name in sorted(served.items())) or "no store of yours"


def check_parts(folder: Path, served: Collection[str] = ()) -> None:
    """Refuse a store that has lost a part: opened as it is, half of its memory would be empty and nobody told.

    Args:
        folder: of the store.
        served: the memories that lie elsewhere.

    Raises:
        StoreDamagedError: the graph's file or the vectors' folder is not there.
    """
    graph, vectors = folder / GRAPH, folder / VECTOR
    found = {"graph": graph.is_file() and graph.stat().st_size > 0, "vector": vectors.is_dir()}
    for name, part in (("graph", graph), ("vector", vectors)):
        if name not in served and not found[name]:
            raise StoreDamagedError(f"{part} is missing or empty; restore the folder from a copy, or ingest anew")


def installed_versions() -> dict[str, str]:
    """Give the versions of this package and the engines a store is made by."""
    found = {}
    for distribution in (DISTRIBUTION, "llama-index-core", "qdrant-edge-py"):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:  # run from a source tree that was never installed
            found[distribution] = "unknown"
    return found


def tenant_folder(root: Path, tenant: str) -> Path:
    """Give a tenant's own folder below a store; different names never share one, also where case does not count.

    Raises:
        ConfigurationError: an empty, overlong or path-like name.
    """
    if not _TENANT.fullmatch(tenant) or not tenant.strip():
        raise ConfigurationError(f"a tenant's name has 1 to 128 characters and no slash, not {tenant!r}")
    readable = _PLAIN.sub("-", tenant.lower()).strip("-")[:32]
    digest = hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return root / "tenants" / (f"{readable}-{digest}" if readable else digest)
