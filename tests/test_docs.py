"""The documentation is true: its code runs, and the tree in the README is the one on the disk."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
from models import Voice
from readme_tree import README, redrawn

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
LONG = {"03_many_brands_one_model", "05_turn_failures_into_training_data"}
"""They take half a minute and more: run by tests/soak/test_examples_soak.py."""
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem not in LONG]

# A fenced block, and before it perhaps a comment with the reason why it is not run.
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

DOCUMENTS = {
    "dram.md": "# DRAM\n\nDRAM stores a bit in a capacitor. Refreshing the capacitors every 64 ms costs energy.\n",
    "nvm.md": "# NVM\n\nNVM keeps its state without power. Against DRAM it saves the energy of refreshing.\n",
}


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama_folder: Path, llama_voices: dict[str, Voice]
) -> Path:
    """A user's folder with a few documents, a base model and two adapters; the code of the docs runs there."""
    shutil.copytree(llama_folder, tmp_path / "base-model")
    for name in ("acme", "bravo"):
        shutil.copytree(llama_voices[name].folder, tmp_path / "adapters" / name)
        config = tmp_path / "adapters" / name / "adapter_config.json"  # trained on the base under that name
        said = {**json.loads(config.read_text(encoding="utf-8")), "base_model_name_or_path": "base-model"}
        config.write_text(json.dumps(said), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    for name, text in DOCUMENTS.items():
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_in_the_docs_runs(page: Path, workplace: Path) -> None:
    """The Python blocks of a page run in order, as one script; what is left out says why."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["reason"] is None:
            line = page.read_text(encoding="utf-8")[: block.start("code")].count("\n")
            exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_examples_run(example: Path, workplace: Path) -> None:
    """Every example runs as it stands, from whatever folder it is started in."""
    runpy.run_path(str(example), run_name="__main__")


def test_the_tree_in_the_readme_is_the_disk() -> None:
    """Every module stands in the README with its docstring's first clause; `make tree` redraws it."""
    readme = README.read_text(encoding="utf-8")
    assert readme == redrawn(readme), "run `make tree`"


def test_links_in_the_docs_lead_somewhere() -> None:
    """A relative link points at a file that is there."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_commands_in_the_docs_exist() -> None:
    """Every `make` target that the README names is one."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"\bmake ([a-z][a-z-]+)(?=`|\s+#)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"demo", "test"} <= set(named)
    assert set(named) <= targets
