"""The notebooks in examples/ run as they stand, can be read without running them, and hold the code of their script."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))
PLOTS = ("import matplotlib", "queries[")  # how cells begin that only a notebook has

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)


def cells(notebook: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of a kind."""
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    """What stands in a cell."""
    return "".join(cell["source"])


@each_notebook
def test_the_cells_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, as a kernel runs them; whatever they write is in the folder for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
    for number, cell in enumerate(cells(notebook), start=1):
        exec(compile(source(cell), f"{notebook.name}, code cell {number}", "exec"), namespace)


@each_notebook
def test_the_code_is_the_script_s(notebook: Path) -> None:
    """Every line of the cells stands in the script, in the same order; plots apart, and what only the script needs."""
    script = notebook.with_suffix(".py").read_text(encoding="utf-8").splitlines()
    written = [line for cell in cells(notebook) if not source(cell).startswith(PLOTS) for line in lines(cell)]
    rest = iter(script)
    assert [line for line in written if line not in rest] == []


def lines(cell: dict[str, Any]) -> list[str]:
    """The lines of a cell that say something."""
    return [line for line in source(cell).splitlines() if line.strip()]


@each_notebook
def test_the_outputs_are_there_and_small(notebook: Path) -> None:
    """Every cell that prints has printed, the plots are pictures, nothing failed; under 300 kB in all."""
    whole = json.loads(notebook.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert notebook.stat().st_size < 300_000
    for cell in cells(notebook):
        kinds = {output["output_type"] for output in cell["outputs"]}
        assert "error" not in kinds
        assert "stream" in kinds or not any(line.startswith("print(") for line in lines(cell))
    assert any("image/png" in output.get("data", {}) for cell in cells(notebook) for output in cell["outputs"])
