"""AdapterRegistry: immutable versions and moving aliases, whatever is killed, damaged or done at the same time."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the extra 'lora'")
pytest.importorskip("transformers", reason="needs the extra 'lora'")

from adapters_by_hand import write_adapter

from llama_index_hybridmem.disk import FolderLock
from llama_index_hybridmem.errors import (
    AdapterNameError,
    AdapterRefusedError,
    ConfigurationError,
    StoreDamagedError,
    StoreError,
    UnknownAdapterError,
)
from llama_index_hybridmem.llms.adapters.aliases import Aliases
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry, AdapterVersion, FolderAdapters

TESTS = Path(__file__).parent


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    """An empty registry; its folder is not there yet."""
    return AdapterRegistry(tmp_path / "adapters")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter folder; another value is another adapter."""
    return lambda value=0.5, **options: write_adapter(tmp_path / f"made-{value}-{len(options)}", value, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- add and get ------------------------------------------------------------------------------------------------------


def test_a_version_says_all_that_was_given(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """What add was told comes back from get, in another process too, and the version survives pickling."""
    added = registry.add(
        made(),
        "brand",
        description="The brand's voice",
        prompt_template="Q: {prompt}\nA:",
        system_prompt="Be brief.",
        defaults={"temperature": 0.2, "max_new_tokens": 64, "stop": ("\n",)},
        lineage={"data": ("a", 1), 3: None},
        aliases=["latest", "prod"],
    )
    found = AdapterRegistry(registry.path).get("brand")
    assert found == added
    assert found.description == "The brand's voice"
    assert found.prompt_template == "Q: {prompt}\nA:"
    assert found.system_prompt == "Be brief."
    assert found.defaults == {"temperature": 0.2, "max_new_tokens": 64, "stop": ["\n"]}
    assert found.lineage == {"data": ["a", 1], "3": None}
    assert found.id == f"brand@{found.sha256[:8]}"
    assert pickle.loads(pickle.dumps(found)) == found
    assert len({found, added}) == 1


def test_references_find_versions(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A bare name is its latest; an alias and eight or more digits of the hash find theirs."""
    one, two = registry.add(made(1.0), "brand", aliases=["latest", "prod"]), registry.add(made(2.0), "brand")
    assert registry.get("brand") == registry.get("brand@latest") == two
    assert registry.get("brand@prod") == registry.get(one.id) == registry.get(f"brand@{one.sha256}") == one
    assert registry.names() == ["brand"]
    assert registry.versions("brand") == [two, one]
    assert registry.aliases("brand") == {"latest": two.sha256, "prod": one.sha256}


def test_what_is_unknown_is_told_with_what_is_known(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A typo names the adapters, a wrong version the adapter's aliases and versions."""
    with pytest.raises(UnknownAdapterError, match="known: none"):
        registry.get("brand")
    added = registry.add(made(), "brand")
    with pytest.raises(UnknownAdapterError) as unknown:
        registry.get("brnad@prod")
    assert unknown.value.known == ["brand"]
    for reference in ("brand@prod", "brand@00000000"):
        with pytest.raises(UnknownAdapterError) as unknown:
            registry.get(reference)
        assert unknown.value.known == ["brand@latest", added.id]
    for ask in (registry.versions, registry.aliases, registry.rollback, registry.remove):
        with pytest.raises(UnknownAdapterError):
            ask("other")


def test_the_same_again_is_the_same_version(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """Adding the same files with the same words writes no second version; under another name the hash is the same."""
    first = registry.add(made(), "brand", description="x")
    before = contents(registry.path)
    assert registry.add(made(), "brand", description="x") == first
    assert contents(registry.path) == before
    assert registry.add(made(), "other", description="x").sha256 == first.sha256


@pytest.mark.parametrize(
    "said",
    [
        {"prompt_template": "{prompt}!"},
        {"system_prompt": "s"},
        {"defaults": {"top_p": 0.5}},
        {"description": "d"},
        {"lineage": {"run": 1}},
    ],
    ids=lambda said: next(iter(said)),
)
def test_other_words_are_another_version_of_the_same_weights(
    registry: AdapterRegistry, made: Callable[..., Path], said: dict[str, Any]
) -> None:
    """A version never changes what it says: the same weights with other words are a version of their own."""
    plain, other = registry.add(made(), "brand"), registry.add(made(), "brand", **said)
    assert plain.sha256 != other.sha256
    assert plain.weights_sha256 == other.weights_sha256
    assert registry.get(plain.id) == plain


def test_only_what_is_served_is_copied(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """Two files and a record lie in the registry; no pickle, no tokenizer; its hash is kept though."""
    folder = made()
    (folder / "training_args.bin").write_bytes(pickle.dumps("never read"))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    version = registry.add(folder, "brand")
    there = {path.name for path in version.folder.iterdir()}
    assert there == {"adapter_config.json", "adapter_model.safetensors", "hybridmem.json"}
    assert (version.folder / "adapter_model.safetensors").read_bytes() == (
        folder / "adapter_model.safetensors"
    ).read_bytes()
    files = registry.verify(version)
    assert files.tokenizer_sha256 == version.tokenizer_sha256 is not None
    assert files.chat_template_sha256 == version.chat_template_sha256 is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_template": "no place"}, "needs {prompt}"),
        ({"defaults": {"temprature": 1}}, "no option 'temprature'.*temperature"),
        ({"defaults": {"temperature": "hot"}}, "a number"),
        ({"defaults": {"temperature": float("nan")}}, "a number"),
        ({"defaults": {"max_new_tokens": 1.5}}, "a whole number"),
        ({"defaults": {"max_new_tokens": True}}, "a whole number"),
        ({"defaults": {"stop": [""]}}, "list of texts"),
        ({"lineage": {"x": object()}}, "JSON values"),
        ({"lineage": {"x": float("inf")}}, "JSON values"),
        ({"base": 7}, "not int"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    registry: AdapterRegistry, made: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    """A template, default, lineage or base that nobody could use is refused before anything is written."""
    with pytest.raises(ConfigurationError, match=message):
        registry.add(made(), "brand", **options)
    assert not registry.path.exists()


def test_bad_names_and_bad_adapters_leave_nothing(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """Names, aliases and files are judged before the registry is touched."""
    for name, aliases in (("../brand", ["latest"]), ("brand", ["deadbeef"]), ("brand", "../x")):
        with pytest.raises(AdapterNameError):
            registry.add(made(), name, aliases=aliases)
    with pytest.raises(AdapterRefusedError, match="NaN"):
        registry.add(made(float("nan")), "brand")
    with pytest.raises(AdapterRefusedError, match="no folder"):
        registry.add(registry.path / "absent", "brand")
    assert not registry.path.exists()


def test_files_that_change_while_they_are_copied_are_refused(
    registry: AdapterRegistry, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is kept: a training that writes meanwhile is noticed."""
    folder, other = made(1.0), made(2.0)
    copy = "llama_index_hybridmem.llms.adapters.registry_folder.shutil.copyfile"
    monkeypatch.setattr(copy, lambda source, target: Path(target).write_bytes((other / Path(source).name).read_bytes()))
    with pytest.raises(AdapterRefusedError, match="changed while they were being copied"):
        registry.add(folder, "brand")
    assert registry.names() == []


def test_a_registry_is_a_folder(tmp_path: Path, registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A file in its place is refused; other things in the folder are passed over."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a folder"):
        AdapterRegistry(tmp_path / "file")
    registry.add(made(), "brand")
    (registry.path / "Not A Name" / ("0" * 64)).mkdir(parents=True)
    (registry.path / "empty").mkdir()
    (registry.path / "notes.txt").write_text("")
    (registry.path / "brand" / "notes").mkdir()
    assert registry.names() == ["brand"]
    assert len(registry.versions("brand")) == 1


def test_get_reads_a_record_once(
    registry: AdapterRegistry, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second get looks at times and the small list of aliases only, and gives the same object."""
    registry.add(made(), "brand")
    found = registry.get("brand")

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("llama_index_hybridmem.llms.adapters.registry_folder.read_version", fail)
    monkeypatch.setattr("llama_index_hybridmem.llms.adapters.aliases.Aliases.from_json", fail)
    assert registry.get("brand") is found


def test_files_are_hashed_once(
    registry: AdapterRegistry, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are read at the first load of a process, and then only when they change."""
    version = registry.add(made(), "brand")
    other = AdapterRegistry(registry.path)
    files = other.verify(version)
    monkeypatch.setattr("llama_index_hybridmem.llms.adapters.folders.open_adapter", lambda folder: 1 / 0)
    assert other.verify(version) == files


# -- checks against a base --------------------------------------------------------------------------------------------


def test_the_base_is_checked_and_kept(
    registry: AdapterRegistry,
    made: Callable[..., Path],
    llama_folder: Path,
    qwen_folder: Path,
) -> None:
    """With a base given, keys, shapes and base are compared at add, its record is kept, and later checks go by it."""
    version = registry.add(made(), "brand", base=llama_folder)
    assert version.made_for is not None
    assert version.made_for.model_type == "llama"
    assert registry.add(made(), "unchecked").made_for is None
    lines = registry.check("brand", llama_folder)
    assert [line.partition(":")[0] for line in lines] == ["files", "configuration", "base", "keys and shapes", "values"]
    with pytest.raises(AdapterRefusedError, match="made for a llama, the base is a qwen2"):
        registry.check("brand", qwen_folder)
    with pytest.raises(AdapterRefusedError, match="q_proj"):
        registry.add(made(hidden=32), "wide", base=llama_folder)
    with pytest.raises(ConfigurationError, match="no folder"):
        registry.check("brand", llama_folder / "absent")
    assert registry.names() == ["brand", "unchecked"]


def test_a_model_in_memory_and_its_folder_are_one_base(
    registry: AdapterRegistry,
    made: Callable[..., Path],
    llama_folder: Path,
) -> None:
    """A record made of a loaded model passes against the folder it came from, and the other way round."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = (
        AutoModelForCausalLM.from_pretrained(llama_folder, dtype="float32"),
        AutoTokenizer.from_pretrained(llama_folder),
    )
    registry.add(made(), "brand", base=loaded)
    assert len(registry.check("brand", llama_folder)) == len(registry.check("brand", loaded)) == 5


def test_names_of_the_base_are_compared_without_a_record(
    registry: AdapterRegistry,
    made: Callable[..., Path],
    llama_folder: Path,
) -> None:
    """An adapter that only names its base is refused for another name, unless the caller says that both are one."""
    folder = made(config={"base_model_name_or_path": "acme/Other-7B"})
    with pytest.raises(AdapterRefusedError, match="acme/Other-7B"):
        registry.add(folder, "brand", base=llama_folder)
    added = registry.add(folder, "brand", base=llama_folder, also_known_as=["acme/other-7b"])
    assert added.made_for is not None


# -- aliases ----------------------------------------------------------------------------------------------------------


def test_aliases_move_and_roll_back(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """Each move is remembered; rollback goes back one at a time, and says when there is nothing left."""
    one, two, three = (registry.add(made(value), "brand") for value in (1.0, 2.0, 3.0))
    assert registry.rollback("brand") == two == registry.get("brand")
    assert registry.rollback("brand") == one == registry.get("brand")
    with pytest.raises(ConfigurationError, match="never stood for another version"):
        registry.rollback("brand")
    with pytest.raises(ConfigurationError, match="no alias 'prod'; there are: latest"):
        registry.rollback("brand", "prod")
    assert registry.alias("brand", "prod", three.sha256[:8]) == three
    assert registry.alias("brand", "prod", "latest") == one
    assert registry.alias("brand", "canary", two.id) == two
    assert registry.rollback("brand", "prod") == three == AdapterRegistry(registry.path).get("brand@prod")


def test_an_alias_needs_a_version_that_is_there(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """An unknown version, another adapter's, or a name that cannot be an alias moves nothing."""
    registry.add(made(1.0), "brand")
    other = registry.add(made(2.0), "other")
    before = contents(registry.path)
    with pytest.raises(UnknownAdapterError):
        registry.alias("brand", "prod", other.sha256[:8])
    with pytest.raises(AdapterNameError, match="no version of 'brand'"):
        registry.alias("brand", "prod", other.id)
    with pytest.raises(AdapterNameError):
        registry.alias("brand", "deadbeef", "latest")
    after = contents(registry.path)
    assert {name for name in after if "owner.lock" not in name} == {name for name in before if "owner.lock" not in name}
    assert after["brand/aliases.json"] == before["brand/aliases.json"]


def test_who_holds_a_version_keeps_it(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A held version stays what it was, on disk too, when its aliases move."""
    held = registry.add(made(1.0), "brand")
    files = contents(held.folder)
    registry.add(made(2.0), "brand")
    assert registry.get("brand") != held
    assert contents(held.folder) == files
    assert registry.verify(held).folder == held.folder


moves = st.lists(st.tuples(st.sampled_from(["move", "back", "without"]), st.sampled_from("ab"), st.sampled_from("012")))


@given(moves)
def test_aliases_keep_their_promises(steps: list[tuple[str, str, str]]) -> None:
    """Whatever is moved, rolled back or removed: they read back as written, never step on the spot, never lead away."""
    aliases = Aliases()
    for step, alias, digit in steps:
        sha256 = digit * 64
        if step == "move":
            aliases = aliases.moved([alias], sha256)
            assert aliases.now[alias] == sha256
        elif step == "without":
            aliases = aliases.without(sha256)
            assert not any(sha256 in each for each in aliases.moves.values())
        elif len(aliases.moves.get(alias, ())) > 1:
            before = aliases.moves[alias]
            aliases = aliases.rolled_back(alias)
            assert aliases.now[alias] == before[-2]
        assert all(one != two for each in aliases.moves.values() for one, two in zip(each, each[1:], strict=False))
        assert Aliases.from_json(json.loads(json.dumps(aliases.to_json())), "x") == aliases


# -- remove -----------------------------------------------------------------------------------------------------------


def test_what_an_alias_stands_for_is_not_removed(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A version goes when no alias stands for it; by force the alias goes with it, and calls by it are refused."""
    one, two = registry.add(made(1.0), "brand", aliases=["latest", "prod"]), registry.add(made(2.0), "brand")
    with pytest.raises(ConfigurationError, match="in use as prod"):
        registry.remove(one.id)
    registry.alias("brand", "prod", "latest")
    registry.remove(one.id)
    assert registry.versions("brand") == [two]
    with pytest.raises(ConfigurationError, match="never stood for another"):
        registry.rollback("brand")
    with pytest.raises(ConfigurationError, match="in use as latest, prod"):
        registry.remove("brand@latest")
    three = registry.add(made(3.0), "brand")
    registry.remove("brand@prod", force=True)
    with pytest.raises(UnknownAdapterError):
        registry.get("brand@prod")
    assert registry.get("brand") == three


def test_a_whole_adapter_is_removed(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A bare name takes every version; an alias that somebody set by hand is in the way, unless forced."""
    registry.add(made(1.0), "brand")
    registry.add(made(2.0), "brand")
    registry.add(made(2.0), "kept")
    registry.alias("brand", "prod", "latest")
    with pytest.raises(ConfigurationError, match="in use as prod"):
        registry.remove("brand")
    registry.remove("brand", force=True)
    assert registry.names() == ["kept"]
    registry.remove("kept")
    assert registry.names() == []
    assert [path.name for path in registry.path.iterdir()] == [".changing"]


def test_the_last_version_takes_its_adapter_with_it(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """An adapter without versions is none."""
    version = registry.add(made(), "brand", aliases=[])
    registry.remove(version.id)
    assert registry.names() == []
    assert not (registry.path / "brand").exists()


def test_a_removed_version_is_gone_for_other_processes(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """A reader that had cached it does not serve what is not there."""
    other = AdapterRegistry(registry.path)
    registry.add(made(1.0), "brand")
    old = other.get("brand")
    registry.add(made(2.0), "brand")
    registry.remove(old.id)
    with pytest.raises(UnknownAdapterError):
        other.get(old.id)
    with pytest.raises(AdapterRefusedError, match="no folder"):
        other.verify(old)


def test_a_reader_between_two_changes_finds_the_new_version(
    registry: AdapterRegistry, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that moves and an old version that goes, just after a reader looked the alias up, are no error to it."""
    other = AdapterRegistry(registry.path)
    old, new = other.add(made(1.0), "brand"), other.add(made(2.0), "brand", aliases=[])
    read = registry._folder.version

    def overtaken(name: str, sha256: str) -> AdapterVersion | None:
        if sha256 == old.sha256:
            other.alias("brand", "latest", new.sha256)
            other.remove(old.id)
        return read(name, sha256)

    monkeypatch.setattr(registry._folder, "version", overtaken)
    assert registry.get("brand") == new


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("Be brief.", "Be rude."),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"name": "brand"', '"name": "other"'),
        lambda text: text.replace('"lineage"', '"linage"'),
        lambda text: "",
        None,
    ],
    ids=["torn", "list", "edited", "newer", "renamed", "key", "empty", "missing"],
)
def test_a_damaged_record_is_refused_with_its_place(
    registry: AdapterRegistry, made: Callable[..., Path], damage: Callable[[str], str] | None
) -> None:
    """Every edit of a version's record shows, at once and by name; removing it by force and adding again mends it."""
    version = registry.add(made(), "brand", system_prompt="Be brief.")
    place = version.folder / "hybridmem.json"
    if damage is None:
        place.unlink()
    else:
        place.write_text(damage(place.read_text()))
    for ask in (registry.get, AdapterRegistry(registry.path).get, registry.versions):
        with pytest.raises(AdapterRefusedError, match="record is damaged") as refused:
            ask("brand")
        assert refused.value.place == place
    registry.remove(version.id, force=True)
    assert registry.add(made(), "brand", system_prompt="Be brief.") == registry.get("brand")


def test_edited_weights_are_refused(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """One flipped byte of the weights is found by verify, check, and adding the same again; get reads no weights."""
    version = registry.add(made(), "brand")
    weights = version.folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for one in (registry, AdapterRegistry(registry.path)):
        assert one.get("brand") == version
        for ask in (one.verify, lambda _, one=one: one.check("brand"), lambda _, one=one: one.add(made(), "brand")):
            with pytest.raises(AdapterRefusedError, match="is not what it was") as refused:
                ask(version)
            assert refused.value.place == version.folder


def test_damaged_aliases_are_refused_and_can_be_set_anew(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """The versions are whole: they are found by hash, and with the file gone the aliases are set anew."""
    version = registry.add(made(), "brand")
    place = registry.path / "brand" / "aliases.json"
    for content in ("{", '{"format": 2, "aliases": {}}', '{"format": 1, "aliases": {"latest": []}}', "[" * 100_000):
        place.write_text(content)
        with pytest.raises(StoreDamagedError, match=r"aliases\.json"):
            registry.get("brand")
        assert registry.get(version.id) == version
    place.unlink()
    with pytest.raises(UnknownAdapterError):
        registry.get("brand")
    registry.alias("brand", "latest", version.sha256)
    assert registry.get("brand") == version


# -- kills, processes, threads ----------------------------------------------------------------------------------------

KILLS = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    import llama_index_hybridmem.llms.adapters.registry as room
    from llama_index_hybridmem.errors import UnknownAdapterError

    room.static_checks = lambda *_: ()  # they write nothing, and torch takes seconds to load
    os.fsync = lambda _: None  # what a kill leaves is what was written; on the disk or not, the system keeps it
    root, one, two = map(Path, sys.argv[1:])
    start = room.AdapterRegistry(root / "start")
    start.add(one, "brand", aliases=["latest", "prod"])
    start.add(two, "doomed")

    def add_first(registry): registry.add(one, "fresh")
    def add_more(registry): registry.add(two, "brand", aliases=["latest", "prod"])
    def remove_one(registry): registry.remove("brand@prod", force=True)
    def remove_all(registry): registry.remove("doomed")

    def die_at(step):
        left = [step]
        def counted(name, call):
            def counting(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    if name == "copyfile":
                        Path(arguments[1]).write_bytes(Path(arguments[0]).read_bytes()[:100])
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)
            return counting
        for module, names in ((os, "fsync rename replace mkdir unlink rmdir"), (shutil, "copyfile")):
            for name in names.split():
                setattr(module, name, counted(name, getattr(module, name)))

    def look(registry):
        found = {}
        for name in registry.names():
            for version in registry.versions(name):
                registry.verify(version)
            for alias in registry.aliases(name):
                found[f"{name}@{alias}"] = registry.get(f"{name}@{alias}").sha256
        return found

    for change in (add_first, add_more, remove_one, remove_all):
        for step in range(1, 100):
            folder = root / f"{change.__name__}-{step}"
            shutil.copytree(start.path, folder)
            registry = room.AdapterRegistry(folder)
            if change is remove_one:
                registry.add(two, "brand")
            before = look(registry)
            child = os.fork()
            if child == 0:
                die_at(step)
                change(registry)
                os._exit(0)
            killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            registry = room.AdapterRegistry(folder)
            after = look(registry)
            registry.add(one, "sweeper")
            left = sorted(path.name for path in (folder / ".changing").iterdir())
            try:
                change(registry)
            except UnknownAdapterError:
                assert change in (remove_one, remove_all)
            final = look(registry)
            del final["sweeper@latest"]
            print(json.dumps([change.__name__, killed, before, after, left, final]))
            if not killed:
                break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are POSIX's")
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, made: Callable[..., Path]) -> None:
    """Killed before any step: all aliases mean whole versions, old or new; the next change sweeps, and can do it."""
    command = [sys.executable, "-c", dedent(KILLS), str(tmp_path / "roots"), str(made(1.0)), str(made(2.0))]
    (tmp_path / "roots").mkdir()
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {name: final for name, killed, _, _, _, final in runs if not killed}
    assert ends.keys() == {"add_first", "add_more", "remove_one", "remove_all"}
    kills = {name: sum(one[0] == name and one[1] for one in runs) for name in ends}
    assert all(count >= 5 for count in kills.values()), kills
    for name, _, before, after, left, final in runs:
        assert after in (before, ends[name])
        assert left == ["owner.lock"]
        assert final == ends[name]


ADDER = """
    import sys
    from pathlib import Path
    import llama_index_hybridmem.llms.adapters.registry as room

    room.static_checks = lambda *_: ()
    registry, mine = room.AdapterRegistry(sys.argv[1]), sys.argv[2:]
    print("ready", flush=True)
    sys.stdin.readline()
    for folder in mine:
        version = registry.add(folder, "brand", aliases=["latest", f"of-{Path(folder).name}"])
        assert registry.get(version.id) == version
        registry.get("brand")
"""


def test_two_processes_add_at_once(registry: AdapterRegistry, tmp_path: Path) -> None:
    """Every version of both is there, every alias stands for its own, and latest for one of the last two."""
    folders = [write_adapter(tmp_path / f"a{number}", float(number)) for number in range(8)]
    starts = [[sys.executable, "-c", dedent(ADDER), str(registry.path), *map(str, folders[k::2])] for k in range(2)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(start, text=True, cwd=TESTS.parent, **pipes) for start in starts]
    for one in running:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in running:
        _, told = one.communicate()
        assert one.returncode == 0, told
    assert len(registry.versions("brand")) == 8
    for folder in folders:
        found = registry.get(f"brand@of-{folder.name}")
        assert (found.folder / "adapter_model.safetensors").read_bytes() == (
            folder / "adapter_model.safetensors"
        ).read_bytes()
    assert registry.get("brand") in [registry.get("brand@of-a6"), registry.get("brand@of-a7")]


def test_a_change_waits_for_another_and_says_when_it_gives_up(
    registry: AdapterRegistry, made: Callable[..., Path]
) -> None:
    """While another holds the lock readers read; a change waits, and after its timeout names the process."""
    version = registry.add(made(), "brand")
    impatient = AdapterRegistry(registry.path, lock_timeout_s=0.05)
    lock = FolderLock(registry.path / ".changing")
    assert impatient.get("brand") == version
    with pytest.raises(StoreError, match=rf"changed by process {os.getpid()}, for more than 0\.05 s"):
        impatient.remove("brand")
    waiting = threading.Thread(target=registry.alias, args=("brand", "prod", "latest"))
    waiting.start()
    lock.release()
    waiting.join()
    assert registry.get("brand@prod") == version


def test_threads_read_while_aliases_move(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """Readers see one version or the other, never a mixture, nor an error unless what they hold is removed."""
    versions = [registry.add(made(value), "brand") for value in (1.0, 2.0)]
    done, removing = threading.Event(), threading.Event()

    def read() -> None:
        while not done.is_set():
            found = registry.get("brand")
            assert found in versions
            try:
                assert registry.verify(found).sha256 == found.weights_sha256
            except AdapterRefusedError:
                assert found == versions[0]
                assert removing.is_set()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for number in range(10):
                registry.alias("brand", "latest", versions[number % 2].sha256)
            removing.set()
            registry.remove(versions[0].id)  # nothing stands for it: who asks anew does not miss it
        finally:
            done.set()
    for reader in readers:
        reader.result()


# -- folders ----------------------------------------------------------------------------------------------------------


def test_folders_serve_as_they_lie(made: Callable[..., Path]) -> None:
    """A dict of paths has the same get, names and verify; nothing is copied; the hash is the registry's."""
    adapters = FolderAdapters({"brand": made(1.0), "other": str(made(2.0))})
    assert adapters.names() == ["brand", "other"]
    version = adapters.get("brand")
    assert version is adapters.get("brand@latest") is adapters.get(version.id)
    assert version.folder == made(1.0)
    assert adapters.verify(version).config.r == 2
    assert "other" in repr(adapters)


def test_a_folder_and_its_copy_in_a_registry_are_one_version(
    registry: AdapterRegistry, made: Callable[..., Path]
) -> None:
    """Moving an app from a dict of paths to a registry changes no hash, so no cache."""
    assert FolderAdapters({"brand": made()}).get("brand").sha256 == registry.add(made(), "brand").sha256


def test_folders_are_opened_on_use_and_again_when_they_change(made: Callable[..., Path], tmp_path: Path) -> None:
    """A folder need not be there at the start; new files in it are a new version, and the old one is told from it."""
    adapters = FolderAdapters({"brand": tmp_path / "later"})
    with pytest.raises(AdapterRefusedError, match="no folder"):
        adapters.get("brand")
    write_adapter(tmp_path / "later", 1.0)
    old = adapters.get("brand")
    write_adapter(tmp_path / "later", 2.0)
    new = adapters.get("brand")
    assert new.sha256 != old.sha256
    with pytest.raises(UnknownAdapterError) as unknown:
        adapters.get(old.id)
    assert unknown.value.known == ["brand@latest", new.id]
    with pytest.raises(AdapterRefusedError, match="is not what it was"):
        adapters.verify(old)


def test_folders_have_no_other_aliases_and_keep_the_rules_of_names(made: Callable[..., Path]) -> None:
    """There is the folder as it is and its hash; names are those that a registry would take."""
    adapters = FolderAdapters({"brand": made()})
    for reference in ("brand@prod", "brand@00000000", "other"):
        with pytest.raises(UnknownAdapterError):
            adapters.get(reference)
    with pytest.raises(AdapterNameError, match="'brand' would do"):
        FolderAdapters({"Brand": made()})


def test_an_exclusive_adapter_is_known_by_its_files(registry: AdapterRegistry, made: Callable[..., Path]) -> None:
    """modules_to_save and DoRA are told before anything is loaded: such rows share no batch."""
    folder = made(config={"use_dora": True})
    assert registry.add(folder, "dora").exclusive
    assert FolderAdapters({"dora": folder}).get("dora").exclusive
    assert not registry.add(made(), "plain").exclusive
