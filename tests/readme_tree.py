"""Draws the README's tree from the disk, each module with its docstring's first clause; `make tree` runs it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- tree: drawn by `make tree` -->", "<!-- /tree -->"
WIDTH = 34  # of the column with the paths

# What has no docstring, or one whose first clause does not say enough.
CAPTIONS = {
    "llama_index_hybridmem": "the package",
    "llama_index_hybridmem/index.py": "HybridMemoryIndex: documents in; retriever, engines and one store on disk out",
    "llama_index_hybridmem/py.typed": "we are typed",
    "tests": "one file per room, same name; `soak/` volume, `smoke/` the built wheel",
    "examples": "numbered, in the order a user meets the features",
    "benchmarks": "one script per claim; each prints JSON lines",
    "docs": "how it works, on one page",
    "Makefile": "every command; `make help`",
    "pyproject.toml": "one place for metadata, extras and rules",
    "CHANGELOG.md": "what changes for you",
}


def caption(path: Path) -> str:
    """What a file or package says of itself: the first clause of its docstring, what it does not know left out.

    Args:
        path: a file or folder below the root.

    Raises:
        KeyError: it says nothing, and `CAPTIONS` does not either.
    """
    name = path.relative_to(ROOT).as_posix()
    if name in CAPTIONS:
        return CAPTIONS[name]
    module = path / "__init__.py" if path.is_dir() else path
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) if module.suffix == ".py" else None
    if not docstring:
        raise KeyError(f"{name} has no docstring and no caption")
    sentence = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"; |\.(?:\s|$)", sentence)[0]


def lines(folder: Path, depth: int) -> Iterator[str]:
    """The tree below a package's folder: its files, then its folders, each with its caption."""
    entries = [path for path in folder.iterdir() if path.suffix == ".py" or path.name == "py.typed"]
    folders = [path for path in folder.iterdir() if (path / "__init__.py").is_file()]
    for path in sorted(entries):
        if depth == 1 or path.name != "__init__.py":
            yield f"{'  ' * depth + path.name:{WIDTH}}{caption(path)}"
    for path in sorted(folders):
        yield f"{'  ' * depth + path.name + '/':{WIDTH}}{caption(path)}"
        yield from lines(path, depth + 1)


def tree() -> str:
    """The whole block between the README's markers."""
    package = ROOT / "llama_index_hybridmem"
    drawn = [f"{package.name + '/':{WIDTH}}{caption(package)}", *lines(package, 1)]
    for name in [name for name in CAPTIONS if "/" not in name and name != package.name and (ROOT / name).exists()]:
        drawn.append(f"{name + '/' * (ROOT / name).is_dir():{WIDTH}}{caption(ROOT / name)}")
    return "\n".join([BEGIN, "```text", *drawn, "```", END])


def redrawn(readme: str) -> str:
    """The README's text with its tree as the disk is now."""
    before, _, rest = readme.partition(BEGIN)
    return before + tree() + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(redrawn(README.read_text(encoding="utf-8")), encoding="utf-8")
