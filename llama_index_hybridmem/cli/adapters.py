"""`hybridmem adapters …`: adapters in a registry, added, checked, aliased, rolled back; knows no model in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import AdapterNameError, AdapterRefusedError, ConfigurationError, UnknownAdapterError
from .options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from ..llms.adapters.files import AdapterFiles
    from ..llms.adapters.registry import AdapterRegistry, AdapterVersion

VARIABLE = "HYBRIDMEM_ADAPTERS"

app = typer.Typer(no_args_is_help=True, help="Keep LoRA adapters, checked and by name.")

Registry = Annotated[
    Path | None,
    typer.Option(
        "--registry", "-r", metavar="DIR", help=f"The registry's folder; else of {VARIABLE}, else in the user's cache."
    ),
]
Reference = Annotated[str, typer.Argument(metavar="REF", help="NAME, NAME@ALIAS or NAME@HASH.")]
Base = Annotated[Path | None, typer.Option("--base", "-b", metavar="DIR", help="Folder of the base model.")]
KnownAs = Annotated[
    list[str] | None,
    typer.Option("--also-known-as", metavar="NAME", help="Another name of the base, as adapters give it; repeatable."),
]


@app.command()
def add(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder that PEFT's save_pretrained wrote.")],
    name: Annotated[str, typer.Option("--name", "-n", help="What the adapter is called.")],
    base: Base = None,
    also_known_as: KnownAs = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    prompt_template: Annotated[
        str | None, typer.Option(metavar="TEXT", help="{prompt} in it stands for the user's text.")
    ] = None,
    system_prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="Of calls that give none.")] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION=VALUE", help="Of calls that do not say, as temperature=0.2; repeatable."),
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(metavar="ALIAS", help="Further alias beside latest; repeatable.")
    ] = None,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Check an adapter and copy it into the registry."""
    from . import screen

    with screen.results_only():
        version = _open(registry).add(
            path,
            name,
            base=base,
            aliases=["latest", *(alias or [])],
            also_known_as=also_known_as or [],
            description=description,
            prompt_template=prompt_template,
            system_prompt=system_prompt,
            defaults=dict(_option(each) for each in default or []),
        )
    _tell(version, f"added as {version.id}", as_json)


@app.command("list")
def list_(registry: Registry = None, as_json: Json = False) -> None:
    """List adapters with their versions and aliases."""
    from . import screen

    opened = _open(registry)
    found = [_listed(opened, name) for name in opened.names()]
    if as_json:
        screen.write_json(found)
    elif found:
        screen.page().print(_table(found))
    else:
        _say(f"No adapters in {opened.path}; hybridmem adapters add PATH --name NAME")


@app.command()
def show(reference: Reference, registry: Registry = None, as_json: Json = False) -> None:
    """Show all that one version says."""
    from rich.table import Table
    from rich.text import Text

    from . import screen

    opened = _open(registry)
    version = opened.get(reference)
    shown = {**_said(version), "aliases": _aliases(opened, version), **_measures(opened.verify(version))}
    if as_json:
        screen.write_json(shown)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in shown.items():
        if value not in (None, "", [], {}):
            table.add_row(key.replace("_", " "), Text(_read_aloud(value)))
    screen.page().print(table)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="REF|PATH", help="What the registry has, or an adapter's folder.")],
    base: Base = None,
    also_known_as: KnownAs = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Load the base, too, and see that the adapter changes what it says.")
    ] = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Run every check of an adapter against its base; with --probe in memory, too."""
    from ..llms.adapters.checks import base_of, static_checks
    from . import screen

    passed: list[str] = []
    refused = None
    try:
        with screen.results_only():
            files = _files(target, registry)
            for line in static_checks(files, None if base is None else base_of(base), also_known_as or []):
                passed.append(line)
            if probe:
                passed.append(_probed(target, base, also_known_as or [], registry))
    except AdapterRefusedError as error:
        refused = error
    if as_json:
        screen.write_json({"target": target, "passed": passed, "refused": _refusal(refused)})
    else:
        for line in passed:
            _say(f"✓ {line}")
    if refused is not None:
        raise refused


@app.command()
def alias(
    reference: Reference,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="What shall stand for it, as prod.")],
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Let an alias stand for a version."""
    from ..llms.adapters.names import parse

    wanted = parse(reference)
    version = _open(registry).alias(wanted.name, alias, wanted.version)
    _tell(version, f"{wanted.name}@{alias} is {version.id}", as_json)


@app.command()
def rollback(
    reference: Annotated[str, typer.Argument(metavar="NAME[@ALIAS]", help="Which alias; latest unless given.")],
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Let an alias stand for what it stood for before."""
    from ..llms.adapters.names import parse

    wanted = parse(reference)
    version = _open(registry).rollback(wanted.name, wanted.version)
    _tell(version, f"{wanted} is {version.id}", as_json)


@app.command()
def remove(
    reference: Annotated[str, typer.Argument(metavar="REF", help="NAME@HASH, NAME@ALIAS, or NAME with all versions.")],
    force: Annotated[bool, typer.Option("--force", help="Also what aliases stand for; they are gone, too.")] = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Remove a version, or an adapter with all of its versions."""
    from . import screen

    _open(registry).remove(reference, force=force)
    if as_json:
        screen.write_json({"removed": reference})
    else:
        _say(f"removed {reference}")


def _open(folder: Path | None) -> AdapterRegistry:
    from ..llms.adapters.registry import AdapterRegistry

    if folder is None and (named := os.environ.get(VARIABLE)):
        folder = Path(named).expanduser()
    if folder is None:
        from ..cache import cache_folder

        folder = cache_folder() / "adapters"
    return AdapterRegistry(folder)


def _option(given: str) -> tuple[str, Any]:
    """An option and its value: JSON where it is some, else text."""
    option, equals, value = given.partition("=")
    if not equals:
        raise ConfigurationError(f"--default {given}: expected OPTION=VALUE, as temperature=0.2")
    try:
        return option, json.loads(value)
    except ValueError:
        return option, value


def _files(target: str, registry: Path | None) -> AdapterFiles:
    """What is checked: a version as the registry has it, else the folder of that name."""
    from ..llms.adapters.files import open_adapter

    try:
        opened = _open(registry)
        return opened.verify(opened.get(target))
    except (AdapterNameError, UnknownAdapterError):
        if not Path(target).is_dir():
            raise
    return open_adapter(Path(target))


def _probed(target: str, base: Path | None, also_known_as: list[str], registry: Path | None) -> str:
    """Load the adapter into its base, which compares the logits with and without it."""
    if base is None:
        raise ConfigurationError("--probe loads the base model: name its folder with --base")
    from ..llms.local import LoraHuggingFaceLLM

    known = {"candidate": target} if Path(target).is_dir() else _open(registry)
    reference = "candidate" if Path(target).is_dir() else target
    llm = LoraHuggingFaceLLM.from_pretrained(str(base), adapters=known, also_known_as=also_known_as)
    llm.pin(reference)
    llm.close()
    return "in memory: it changes the model's logits, and to finite ones"


def _tell(version: AdapterVersion, said: str, as_json: bool) -> None:
    from . import screen

    if as_json:
        screen.write_json(_said(version))
    else:
        _say(said)


def _say(line: str) -> None:
    from . import screen

    screen.page().print(line, markup=False, soft_wrap=True)


def _said(version: AdapterVersion) -> dict[str, Any]:
    """What a version says, the base without its sampled weights."""
    record = {key: value for key, value in version.to_json().items() if key != "format"}
    kept = ("name", "revision", "model_type", "dtype", "quantization")
    base = record["base"] and {key: record["base"][key] for key in kept}
    return {"id": version.id, **record, "base": base, "folder": str(version.folder)}


def _read_aloud(value: Any) -> str:
    """A value for people: numbers with commas, lists as words, the rest of what is no text as JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _aliases(registry: AdapterRegistry, version: AdapterVersion) -> list[str]:
    return sorted(alias for alias, sha256 in registry.aliases(version.name).items() if sha256 == version.sha256)


def _listed(registry: AdapterRegistry, name: str) -> dict[str, Any]:
    """An adapter with its versions; with the problem where they cannot be read, so that the others are listed still."""
    from ..errors import HybridMemoryError

    try:
        versions = registry.versions(name)
        aliases = registry.aliases(name)
    except HybridMemoryError as error:
        return {"name": name, "problem": str(error), "aliases": {}, "versions": []}
    return {"name": name, "problem": None, "aliases": aliases, "versions": [_said(each) for each in versions]}


def _table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("adapter", "aliases", "base", "added", "description"):
        table.add_column(heading, overflow="fold", min_width=len("2000-01-01") if heading == "added" else None)
    for adapter in found:
        for cells in _rows(adapter):
            table.add_row(*map(Text, cells))
        if adapter["problem"]:
            table.add_row(adapter["name"], "", "", "", Text(adapter["problem"], "red"))
    return table


def _rows(adapter: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for version in adapter["versions"]:
        standing = [alias for alias, sha256 in adapter["aliases"].items() if sha256 == version["sha256"]]
        base = Path(version["base"]["name"]).name if version["base"] else "–"
        yield version["id"], " ".join(sorted(standing)), base, version["added"][:10], version["description"]


def _measures(files: AdapterFiles) -> dict[str, Any]:
    """What the files say of themselves."""
    config = files.config
    size = files.weights.stat().st_size
    return {"rank": config.r, "alpha": config.alpha, "tensors": len(files.shapes), "bytes": size}


def _refusal(error: AdapterRefusedError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"place": str(error.place), "key": error.key, "problem": error.problem, "advice": error.advice}
