"""`hybridmem finetune` and `improve`: what they refuse before a model is loaded, and how a candidate is told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_cli import run

from llama_index_hybridmem.cli.finetune_view import candidate_told
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.candidates import Candidate
from llama_index_hybridmem.training.scores import score, summarise
from llama_index_hybridmem.training.verdict import judge

ROWS = [Example(str(n), ({"role": "user", "content": "?"},), "On Friday", answerable=True) for n in range(40)]


def questions(path: Path, **more: Any) -> Path:
    """A file of one question."""
    path.write_text(json.dumps({"question": "When?", "answer": "On Friday", **more}) + "\n", "utf-8")
    return path


def told(made: Candidate) -> str:
    """What a terminal shows."""
    console = Console(width=100, record=True, file=io.StringIO())
    for part in candidate_told(made):
        console.print(part, soft_wrap=True)
    return console.export_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "1"), "--split: three shares"),
        (("--method", "prompt"), "unlike prompt"),
        (("--rank", "0"), "--rank: a whole number"),
        (("--profile", "none.json"), "none.json"),
        ((), "no store in"),
    ],
)
def test_what_cannot_be_is_refused_by_option(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """With exit code 2, by both commands alike."""
    place = ("--store", tmp_path / "store", "--base", tmp_path, "--few-rows", *options)
    tuned = run("finetune", "--train-data", questions(tmp_path / "qa.jsonl"), "-o", tmp_path / "out", *place)
    assert (tuned.code, said in tuned.err) == (2, True), tuned.err
    better = run(
        "improve",
        questions(tmp_path / "failures.jsonl", reviewed="Ada"),
        "-o",
        tmp_path / "work",
        "-n",
        "brand",
        "-r",
        tmp_path / "registry",
        *place,
    )
    assert (better.code, said in better.err) == (2, True), better.err


def test_failures_without_a_review_and_too_few_are_refused(tmp_path: Path) -> None:
    """By file; and how many are missing."""
    place = (
        "--store",
        tmp_path,
        "--base",
        tmp_path,
        "-r",
        tmp_path / "registry",
        "-n",
        "brand",
        "-o",
        tmp_path / "work",
    )
    result = run("improve", questions(tmp_path / "failures.jsonl"), *place)
    assert (result.code, "none of 1 rows was reviewed" in result.err) == (2, True)
    result = run("improve", questions(tmp_path / "failures.jsonl", reviewed=True), *place)
    assert (result.code, "99 more are needed" in result.err) == (2, True)


def test_a_candidate_is_told_with_who_said_what_and_what_follows(tmp_path: Path) -> None:
    """A table of all that were asked, each check with its sign, and how to promote it."""
    wrong, good = ([score(answer, each) for each in ROWS] for answer in ("On Monday!", "On Friday"))
    scores = {name: summarise(each, ROWS).to_json() for name, each in (("base", wrong), ("candidate", good))}
    verdict = judge(wrong, good, ROWS)
    report = {
        "failures": {"user": 40},
        "rows": {"new": 30, "earlier": 30, "model-written": 0},
        "warnings": ["Few rows."],
        "scores": scores,
        "rounds": {"0001": scores, "0002": scores},
        "verdicts": {"base": verdict.to_json()},
        "passed": verdict.passed,
    }
    text = told(Candidate(tmp_path, tmp_path / "adapter", "brand@1a2b3c4d", report))
    for part in (
        "40 failures: user",
        "rows: 30 new, 30 earlier",
        "! Few rows.",
        "right in round",
        "against the base: cannot be told, and better beyond chance",
        "+ all rows: +50.0 points",
        "called brand@candidate; to promote it: hybridmem adapters alias brand@1a2b3c4d prod",
    ):
        assert part in text
    assert "model-written" not in text
