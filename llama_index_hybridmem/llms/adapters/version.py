"""One adapter as it was added: hashes, prompts, defaults, the base it was made for; knows no registry and no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_hybridmem.errors import AdapterRefusedError, ConfigurationError
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord
from llama_index_hybridmem.llms.adapters.names import SHOWN_DIGITS
from llama_index_hybridmem.llms.serving.request import Options

if TYPE_CHECKING:
    from llama_index_hybridmem.llms.adapters.files import AdapterFiles

RECORD = "hybridmem.json"
"""Beside the adapter's two files; `files.open_adapter` finds the base in it too."""
FORMAT = 1
PROMPT = "{prompt}"

# The rest of a record is not hashed: the same content has the same hash under any name, whenever it was added.
_HASHED = (
    "weights_sha256 exclusive tokenizer_sha256 chat_template_sha256 description prompt_template system_prompt defaults "
    "base lineage"
).split()
_DEFAULTS = {option.name: type(option.default) for option in fields(Options) if option.name != "processors"}


@dataclass(frozen=True)
class AdapterVersion:
    """One immutable version of an adapter; it says all that serving it takes.

    Attributes:
        name: the adapter's.
        sha256: of everything below but the folder and the time: other prompts or another description are another
            version, of the same weights.
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        description: for people.
        prompt_template: ``{prompt}`` in it stands for the user's text; None for the text as it is.
        system_prompt: of calls that give none; None for none.
        defaults: options of calls that do not say: ``max_new_tokens``, ``temperature``, ``top_p``, ``stop`` and so on.
        made_for: the base it was checked against, or says itself that it was trained on; None where neither is known.
        added: when, in ISO 8601, UTC; "" for a folder that was never added.
        lineage: what it was made from, as its maker says; JSON values.
        weights_sha256: of the two files alone, as `files.open_adapter` gives it: what caches of loaded weights
            and of prefixes go by.
        exclusive: whether it cannot share a batch with others (DoRA, modules_to_save).
        tokenizer_sha256: of the vocabulary that lay beside the adapter, see `files.AdapterFiles`.
        chat_template_sha256: of the chat template that lay beside the adapter.
    """

    name: str
    sha256: str
    folder: Path
    description: str = ""
    prompt_template: str | None = None
    system_prompt: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    made_for: BaseRecord | None = None
    added: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    exclusive: bool = False
    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.sha256))

    @property
    def id(self) -> str:
        """Name and the first digits of the hash: ``brand@1a2b3c4d``."""
        return f"{self.name}@{self.sha256[:SHOWN_DIGITS]}"

    def to_json(self) -> dict[str, Any]:
        """Give the record as it is kept beside the files."""
        return {
            "format": FORMAT,
            "name": self.name,
            "sha256": self.sha256,
            "added": self.added,
            "weights_sha256": self.weights_sha256,
            "exclusive": self.exclusive,
            "tokenizer_sha256": self.tokenizer_sha256,
            "chat_template_sha256": self.chat_template_sha256,
            "description": self.description,
            "prompt_template": self.prompt_template,
            "system_prompt": self.system_prompt,
            "defaults": dict(self.defaults),
            "base": None if self.made_for is None else self.made_for.to_json(),
            "lineage": dict(self.lineage),
        }


def version_of(
    files: AdapterFiles,
    name: str,
    *,
    description: str = "",
    prompt_template: str | None = None,
    system_prompt: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    made_for: BaseRecord | None = None,
    lineage: Mapping[str, Any] | None = None,
    added: str = "",
) -> AdapterVersion:
    """Make a version of an adapter's files where they lie.

    Args:
        files: see `files.open_adapter`.
        name: checked by the caller.
        description: see `AdapterVersion`, as the further ones.
        prompt_template: must hold ``{prompt}``.
        system_prompt: see `AdapterVersion`.
        defaults: names and kinds as in `request.Options`, without its processors.
        made_for: see `AdapterVersion`.
        lineage: JSON values.
        added: see `AdapterVersion`.

    Raises:
        ConfigurationError: a template without its place for the prompt, or a default or lineage that cannot be kept.
    """
    if prompt_template is not None and PROMPT not in prompt_template:
        raise ConfigurationError(f"a prompt template needs {PROMPT} where the user's text goes: {prompt_template!r}")
    record = {
        "weights_sha256": files.sha256,
        "exclusive": files.config.exclusive,
        "tokenizer_sha256": files.tokenizer_sha256,
        "chat_template_sha256": files.chat_template_sha256,
        "description": description,
        "prompt_template": prompt_template,
        "system_prompt": system_prompt,
        "defaults": {option: _default(option, value) for option, value in (defaults or {}).items()},
        "lineage": _as_json(dict(lineage or {})),
    }
    sha256 = _content_hash({**record, "base": None if made_for is None else made_for.to_json()})
    return AdapterVersion(name, sha256, files.folder, made_for=made_for, added=added, **record)


def read_version(folder: Path, name: str) -> AdapterVersion:
    """Read the record of a version in a registry; its weights are not looked at.

    Args:
        folder: the version's, called as its hash.
        name: of the adapter.

    Raises:
        AdapterRefusedError: it is not what was written; names the file.
        FileNotFoundError: there is none.
        OSError: it cannot be opened.
    """
    place = folder / RECORD
    content = place.read_bytes()
    try:
        record = json.loads(content)
        if record["format"] != FORMAT:
            raise ValueError(f"it has format {record['format']}, this version reads {FORMAT}")
        sha256 = _content_hash(record)
        if (sha256, record["sha256"], record["name"]) != (folder.name, folder.name, name):
            raise ValueError("its content and its hash do not agree")
        made_for = None if record["base"] is None else BaseRecord.from_json(record["base"], str(place))
        kept = {key: record[key] for key in [*_HASHED, "added"] if key != "base"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(place, str(error)) from error
    return AdapterVersion(name, sha256, folder, made_for=made_for, **kept)


def damaged(place: Path, problem: str) -> AdapterRefusedError:
    """Make the error of a version whose record cannot be used."""
    advice = "Restore the folder from a copy, or remove the version and add the adapter again"
    return AdapterRefusedError(place, None, f"the version's record is damaged: {problem}", advice)


def as_text(record: Mapping[str, Any]) -> str:
    """A record as it is written: sorted, indented, for people to read."""
    return json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _content_hash(record: Mapping[str, Any]) -> str:
    """Hash what identifies a version."""
    content = json.dumps({key: record[key] for key in _HASHED}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def _as_json(value: dict[str, Any]) -> Any:
    """What a reader of the record will see of a value."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"a lineage holds JSON values only: {error}") from error


def _default(option: str, value: Any) -> Any:
    """A default as JSON keeps it."""
    kind = _DEFAULTS.get(option)
    if kind is None:
        raise ConfigurationError(f"no option {option!r} to set a default of; there are: {', '.join(sorted(_DEFAULTS))}")
    if option in _CHOICES:
        if value in _CHOICES[option]:
            return value
    elif kind is tuple:
        texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
        if texts and all(isinstance(text, str) and text for text in texts):
            return texts
    elif type(value) in ({int, float} if kind is float else {kind}) and math.isfinite(value):
        return value
    words = " or ".join(_CHOICES[option]) if option in _CHOICES else _WORDS[kind]
    raise ConfigurationError(f"the default {option}={value!r} should be {words}")


_CHOICES = {"copy_from": ("prompt", "off"), "copy_unit": ("span", "word")}
_WORDS = {int: "a whole number", float: "a number", tuple: "a text, or a list of texts"}
