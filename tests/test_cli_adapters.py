"""`hybridmem adapters …`: tables and JSON, exit codes, and refusals that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra 'lora'")
pytest.importorskip("transformers", reason="needs the extra 'lora'")

from adapters_by_hand import write_adapter
from test_cli import Result, run

from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry

Command = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good adapter's folder."""
    return write_adapter(tmp_path / "made", 1.0)


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `hybridmem adapters …` on a registry of its own, which the environment names."""
    monkeypatch.setenv("HYBRIDMEM_ADAPTERS", str(tmp_path / "registry"))
    return lambda *arguments: run("adapters", *arguments)


def test_a_version_is_added_with_all_its_words(adapters: Command, folder: Path, tmp_path: Path) -> None:
    """Every option of add reaches the record; values are JSON where they are some, else text."""
    words = ["--description", "A [voice]", "--prompt-template", "Q: {prompt}", "--system-prompt", "Be brief."]
    defaults = ["--default", "temperature=0.2", "--default", 'stop=["\\n"]', "--default", "max_new_tokens=64"]
    added = adapters("add", folder, "--name", "brand", *words, *defaults, "--alias", "prod", "--json")
    assert added.code == 0
    version = AdapterRegistry(tmp_path / "registry").get("brand@prod")
    assert added.json["id"] == version.id
    assert added.json["folder"] == str(version.folder)
    assert version == AdapterRegistry(tmp_path / "registry").get("brand")
    assert (version.description, version.prompt_template) == ("A [voice]", "Q: {prompt}")
    assert (version.system_prompt, version.added) == ("Be brief.", added.json["added"])
    assert version.defaults == {"temperature": 0.2, "stop": ["\n"], "max_new_tokens": 64}
    assert adapters("add", folder, "-n", "brand", *words, *defaults).out == f"added as {version.id}\n"


def test_the_list_is_a_table(adapters: Command, folder: Path, tmp_path: Path) -> None:
    """A row for each version, the newest first, with its aliases; without adapters it says how to add one."""
    assert "hybridmem adapters add PATH" in adapters("list").out
    first = adapters("add", folder, "-n", "brand", "--alias", "prod", "--description", "A [bold] voice", "--json").json
    second = adapters("add", write_adapter(tmp_path / "two", 2.0), "-n", "brand", "--json").json
    lines = adapters("list").out.splitlines()
    assert lines[0].split() == ["adapter", "aliases", "base", "added", "description"]
    assert lines[1].split()[:2] == [second["id"], "latest"]
    assert lines[2].split()[:2] == [first["id"], "prod"]
    assert "A [bold] voice" in lines[2]
    (listed,) = adapters("list", "--json").json
    assert listed["aliases"] == {"latest": second["sha256"], "prod": first["sha256"]}
    assert [version["id"] for version in listed["versions"]] == [second["id"], first["id"]]


def test_a_damaged_adapter_hides_no_other(adapters: Command, folder: Path, tmp_path: Path) -> None:
    """The list names what is wrong with one and lists the rest."""
    bad = adapters("add", folder, "-n", "bad", "--json").json
    adapters("add", folder, "-n", "good")
    (Path(bad["folder"]) / "hybridmem.json").write_text("{")
    shown = adapters("list")
    assert shown.code == 0
    assert "record is damaged" in shown.words
    assert "good@" in shown.out
    problems = {each["name"]: each["problem"] for each in adapters("list", "--json").json}
    assert problems["good"] is None
    assert "hybridmem.json" in problems["bad"]
    assert adapters("show", "bad").code == 2


def test_show_says_all_of_one_version(adapters: Command, folder: Path) -> None:
    """Words, hashes, aliases, and what the files say; of the base not the sampled weights."""
    added = adapters("add", folder, "-n", "brand", "--system-prompt", "Be brief.", "--default", "top_p=0.9", "--json")
    shown = adapters("show", "brand")
    assert "Be brief." in shown.out
    assert '{"top_p": 0.9}' in shown.out
    told = adapters("show", added.json["id"], "--json").json
    assert told["aliases"] == ["latest"]
    assert (told["rank"], told["tensors"]) == (2, 2)
    assert told["bytes"] == (folder / "adapter_model.safetensors").stat().st_size
    assert {**told, **added.json} == told


def test_check_lists_what_was_passed(adapters: Command, folder: Path, llama_folder: Path) -> None:
    """Each passed check is a line, for a version and for a folder alike; with a base keys and shapes are compared."""
    adapters("add", folder, "-n", "brand", "--base", llama_folder)
    lines = adapters("check", "brand", "--base", llama_folder).out.splitlines()
    names = ["files", "configuration", "base", "keys and shapes", "values"]
    assert [line.partition(":")[0] for line in lines] == [f"✓ {name}" for name in names]
    told = adapters("check", folder, "--json").json
    assert [line.partition(":")[0] for line in told["passed"]] == [
        "files",
        "configuration",
        "not compared with any base",
        "values",
    ]
    assert told["refused"] is None
    shown = adapters("list", "--json").json[0]["versions"][0]["base"]
    assert shown["model_type"] == "llama"
    assert "samples" not in shown


def test_a_refusal_names_file_key_and_advice(adapters: Command, tmp_path: Path, llama_folder: Path) -> None:
    """After the passed checks the refusal goes to standard error with code 2; in JSON it is told in parts."""
    wide = write_adapter(tmp_path / "wide", hidden=32)
    result = adapters("check", wide, "--base", llama_folder)
    assert result.code == 2
    assert "✓ configuration" in result.out
    assert "✓ values" not in result.out
    assert "q_proj.lora_" in result.err
    nan = write_adapter(tmp_path / "nan", float("nan"))
    result = adapters("check", nan, "--json")
    assert result.code == 2
    refused = result.json["refused"]
    assert refused["place"] == str(nan / "adapter_model.safetensors")
    assert refused["key"].endswith("q_proj.lora_A.weight")
    assert "NaN" in refused["problem"]
    assert refused["advice"] in result.err
    assert adapters("add", nan, "-n", "brand").code == 2
    assert not (tmp_path / "registry").exists()


def test_a_reference_comes_before_a_folder_of_the_same_name(
    adapters: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the registry has is checked there; "./name" is always the folder, as is a name that it has not."""
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "brand", float("nan"))
    assert adapters("check", "brand").code == 2
    adapters("add", folder, "-n", "brand")
    assert adapters("check", "brand").code == 0
    assert adapters("check", "./brand").code == 2
    assert "known: brand" in adapters("check", "absent").err


def test_aliases_move_and_roll_back(adapters: Command, folder: Path, tmp_path: Path) -> None:
    """Alias and rollback say which version stands now."""
    first = adapters("add", folder, "-n", "brand", "--json").json["id"]
    second = adapters("add", write_adapter(tmp_path / "two", 2.0), "-n", "brand", "--json").json["id"]
    assert adapters("alias", first, "prod").out == f"brand@prod is {first}\n"
    assert adapters("alias", "brand", "prod", "--json").json["id"] == second
    assert adapters("rollback", "brand@prod").out == f"brand@prod is {first}\n"
    assert adapters("rollback", "brand", "--json").json["id"] == first
    again = adapters("rollback", "brand")
    assert again.code == 2
    assert "never stood for another version" in again.err


def test_remove_keeps_what_is_in_use(adapters: Command, folder: Path) -> None:
    """What an alias stands for needs --force; what is not there is told with code 2."""
    first = adapters("add", folder, "-n", "brand", "--alias", "prod", "--json").json["id"]
    refused = adapters("remove", first)
    assert refused.code == 2
    assert "in use as latest, prod" in refused.err
    assert adapters("remove", first, "--force").out == f"removed {first}\n"
    assert adapters("list", "--json").json == []
    assert adapters("remove", "brand", "--json").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "../brand"], "an adapter's name has"),
        (["--name", "brand", "--default", "temperature"], "expected OPTION=VALUE"),
        (["--name", "brand", "--default", "temperature=hot"], "a number"),
        (["--name", "brand", "--prompt-template", "x"], "{prompt}"),
        (["--name", "brand", "--base", "absent"], "absent"),
    ],
)
def test_what_cannot_be_used_is_told(adapters: Command, folder: Path, arguments: list[str], message: str) -> None:
    """Names, defaults, templates and bases that cannot be used end with a line and code 2."""
    result = adapters("add", folder, *arguments)
    assert result.code == 2
    assert message in result.err


def test_the_registry_is_named_or_found(
    adapters: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--registry wins over the environment, and that over the user's cache."""
    adapters("add", folder, "-n", "brand", "--registry", tmp_path / "named")
    assert AdapterRegistry(tmp_path / "named").names() == ["brand"]
    assert adapters("list", "--json").json == []
    monkeypatch.delenv("HYBRIDMEM_ADAPTERS")
    monkeypatch.setenv("HYBRIDMEM_CACHE", str(tmp_path / "cache"))
    adapters("add", folder, "-n", "cached")
    assert AdapterRegistry(tmp_path / "cache" / "adapters").names() == ["cached"]


def test_a_list_loads_nothing_heavy(tmp_path: Path, folder: Path) -> None:
    """A list of adapters needs no torch, and no LlamaIndex either where the registry is named."""
    registry = AdapterRegistry(tmp_path / "registry")
    registry.add(folder, "brand")
    code = (
        "import sys\nfrom llama_index_hybridmem.cli.main import main\ntry:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*{'torch', 'transformers', 'llama_index', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "adapters", "list", "--json", "--registry", str(registry.path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=True)
    assert json.loads(done.stdout)[0]["name"] == "brand"
    assert done.stderr.strip() == ""
