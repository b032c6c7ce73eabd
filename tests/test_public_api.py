"""What a user meets at the door: true public names, a light import, a clear word when an extra is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import llama_index_hybridmem as package
from llama_index_hybridmem.errors import HybridMemoryError, MissingExtraError
from llama_index_hybridmem.extras import require

ROOT = Path(__file__).parents[1]


def cpu_s(*arguments: str) -> tuple[float, str]:
    """CPU seconds and standard output of a fresh interpreter; the better of two runs, since the machine may be busy."""
    resource = pytest.importorskip("resource", reason="CPU seconds of a child are counted on POSIX only")
    best, output = float("inf"), ""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        output = done.stdout
    return best, output


@pytest.fixture(scope="module")
def bare_s() -> float:
    """CPU seconds of an interpreter that does nothing."""
    return cpu_s("-c", "pass")[0]


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted, holds nothing twice, and each name is something of ours."""
    assert package.__all__ == sorted(set(package.__all__))
    for name in package.__all__:
        value = getattr(package, name)
        assert getattr(value, "__module__", package.__name__).startswith(package.__name__), name


def test_every_public_name_is_typed() -> None:
    """The imports that a type checker sees, the lazy table and `__all__` are one list."""
    source = (ROOT / package.__name__ / "__init__.py").read_text(encoding="utf-8")
    typed = {
        name: home
        for home, names in re.findall(r"^    from \.([\w.]+) import (.+)$", source, flags=re.MULTILINE)
        for name in names.split(", ")
    }
    assert typed == package._HOMES
    assert sorted(typed) == package.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typo fails as it does in any module, and `dir` lists the public names."""
    typo = "HybridMemoryIndx"
    with pytest.raises(AttributeError, match=f"no attribute '{typo}'"):
        getattr(package, typo)
    assert set(package.__all__) <= set(dir(package))


def test_the_import_is_light(bare_s: float) -> None:
    """Importing the package loads no library at all and costs at most 0.1 s CPU."""
    code = "import sys; before = set(sys.modules); import llama_index_hybridmem; print(*set(sys.modules) - before)"
    spent, loaded = cpu_s("-c", code)
    assert {name.partition(".")[0] for name in loaded.split()} - sys.stdlib_module_names == {package.__name__}
    assert spent - bare_s <= 0.1


@pytest.mark.skipif(not (ROOT / package.__name__ / "cli" / "main.py").exists(), reason="the command line is not there")
def test_help_is_quick(bare_s: float) -> None:
    """`hybridmem --help` loads nothing but typer, and costs at most four times what importing that costs."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); sys.argv = ['hybridmem', '--help']; "
        "from llama_index_hybridmem.cli.main import main; main()"
    )
    spent, shown = cpu_s("-c", code)
    assert "ingest" in shown
    loaded = {name.partition(".")[0] for name in shown.splitlines()[-1].split()}
    assert not loaded & {"llama_index", "numpy", "peft", "rich", "torch", "transformers", "trl"}
    assert spent - bare_s <= 4 * (cpu_s("-c", "import typer")[0] - bare_s)


class Blocked:
    """An import finder that knows nothing of some libraries, as on a machine that has them not."""

    def __init__(self, *libraries: str) -> None:
        self.libraries = libraries

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Refuses the blocked libraries and leaves all else to the other finders."""
        if any(f"{name}.".startswith(f"{library}.") for library in self.libraries):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Blocks libraries for one test; what was loaded before is put back untouched."""

    def blocking(*libraries: str) -> None:
        for name in [name for name in sys.modules if any(f"{name}.".startswith(f"{one}.") for one in libraries)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Blocked(*libraries), *sys.meta_path])

    return blocking


def minilm() -> object:
    """What a user without torch would write first."""
    return package.MiniLMEmbedding()


def other_encoder() -> object:
    """An encoder by its hub name."""
    from llama_index_hybridmem.encoder import resolve_encoder

    return resolve_encoder("sentence-transformers/all-mpnet-base-v2")


@pytest.mark.parametrize(
    ("use", "library", "extra"),
    [
        (minilm, "torch", "encoder"),
        (minilm, "tokenizers", "encoder"),
        (other_encoder, "llama_index.embeddings", "huggingface"),
    ],
)
def test_a_missing_extra_is_named(
    use: Callable[[], object], library: str, extra: str, block: Callable[..., None]
) -> None:
    """Without an extra's library the error is ours, an ImportError, and holds the exact pip line."""
    block(library)
    with pytest.raises(ImportError, match=re.escape(f'pip install "llama-index-hybridmem[{extra}]"')) as caught:
        use()
    assert isinstance(caught.value, MissingExtraError)
    assert caught.value.extra == extra
    assert isinstance(caught.value, HybridMemoryError)


def test_require_looks_before_anything_is_imported(block: Callable[..., None]) -> None:
    """Every library is checked; one that is there is not loaded by the check."""
    block("wave")
    with pytest.raises(MissingExtraError, match=re.escape("Sound needs the extra 'sound'")):
        require("Sound", "sound", "json", "wave")
    with pytest.raises(MissingExtraError) as caught:
        require("Sound", "sound", "no_such_library.inner")
    assert isinstance(caught.value.__cause__, ImportError)
    require("Sound", "sound", "json", "this")
    assert "this" not in sys.modules


def test_every_extra_exists() -> None:
    """The extras that errors name are extras of pyproject.toml, and `all` holds each of them once."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\[", text, re.DOTALL)
    assert declared
    extras = re.findall(r"^(\w+) = \[", declared[1], re.MULTILINE)
    listed = ",".join(re.findall(r'"llama-index-hybridmem\[(.*?)\]"', declared[1])).split(",")
    assert sorted(listed) == sorted(set(extras) - {"all"})
    for path in (ROOT / package.__name__).rglob("*.py"):
        named = re.findall(r'(?:require|MissingExtraError)\(\s*"[^"]*",\s*"(\w+)"', path.read_text(encoding="utf-8"))
        assert set(named) <= set(extras), path


def test_the_changelog_begins_with_this_version() -> None:
    """The newest version in the changelog is the package's."""
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == package.__version__


def test_the_hub_page_credits_public_classes() -> None:
    """The classes that pyproject.toml lists for LlamaIndex's hub are public names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    authors = re.search(r"\[tool\.llamahub\.class_authors\]\n(.*?)\n\n", text, re.DOTALL)
    assert authors
    assert set(re.findall(r"^(\w+) = ", authors[1], re.MULTILINE)) <= set(package.__all__)
