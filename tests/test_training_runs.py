"""Training runs of a tiny model with the real TRL and PEFT: the same bytes each time, killed or not; what is kept."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SOAK
from models import tiny_qwen

from llama_index_hybridmem.cli.main import main
from llama_index_hybridmem.errors import ConfigurationError, TrainingError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.llms.adapters.registry import AdapterRegistry
from llama_index_hybridmem.training.bases import adapter_config, open_base, without_others_news
from llama_index_hybridmem.training.checkpoints import CHECKPOINTS, COMPLETE, keep_adapter
from llama_index_hybridmem.training.loss import answer_loss
from llama_index_hybridmem.training.measuring import before_and_after
from llama_index_hybridmem.training.recipe import Recipe
from llama_index_hybridmem.training.rows import TrainingSet
from llama_index_hybridmem.training.runs import Trained, train
from llama_index_hybridmem.training.trainer import Fit, fit, is_over, kept_step

RECIPE = Recipe(rank=4, alpha=8, batch_size=4, micro_batch=2, epochs=1, evaluations=2, precision="fp32", replay=0)
ROWS = [
    Example(str(number), ({"role": "user", "content": f"Which colour has stone {number}?"},), f"It is {colour}.")
    for number, colour in enumerate(["red", "blue", "green", "black"] * 6)
]
TRAIN, DEV = ROWS[:20], ROWS[20:]


class Killed(BaseException):
    """What ends a process from outside."""


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("models") / "tiny")


def run(
    model: Path, folder: Path, recipe: Recipe = RECIPE, killed_at: int | None = None, dev: Sequence[Example] = DEV
) -> Fit:
    """One run, or one that is killed behind a step."""

    def told(step: int, of: int, losses: Any) -> None:
        if step == killed_at:
            raise Killed

    return fit(open_base(model, recipe), TRAIN, dev, recipe, folder, told)


def weights(found: Fit) -> str:
    """The hash of what is kept."""
    return hashlib.sha256((found.folder / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module", name="whole")
def _whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """A run that nobody disturbed."""
    return run(model, tmp_path_factory.mktemp("whole"))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(model: Path, whole: Fit, tmp_path: Path) -> None:
    """On a CPU, on any machine of the same kind; and the loss on rows that it never saw falls."""
    assert weights(run(model, tmp_path / "again")) == weights(whole)
    assert weights(run(model, tmp_path / "other", replace(RECIPE, seed=1))) != weights(whole)
    assert whole.steps == sum("loss" in line for line in whole.losses) == 5
    watched = [line["dev_loss"] for line in whole.losses if "dev_loss" in line]
    assert len(watched) == 3
    assert watched[-1] < watched[0]


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_killed_and_called_again_it_gives_the_bytes_of_an_unbroken_run(
    model: Path, whole: Fit, tmp_path: Path, step: int
) -> None:
    """Before the first checkpoint, right behind one, between two, and at the last step."""
    with pytest.raises(Killed):
        run(model, tmp_path, killed_at=step)
    again = run(model, tmp_path)
    assert (weights(again), again.losses, again.kept_step) == (weights(whole), whole.losses, whole.kept_step)


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_used(model: Path, whole: Fit, tmp_path: Path) -> None:
    """Without its mark it is removed: its files may be half there."""
    with pytest.raises(Killed):
        run(model, tmp_path, killed_at=5)
    last = max((tmp_path / CHECKPOINTS).iterdir(), key=lambda each: int(each.name.rpartition("-")[2]))
    (last / COMPLETE).unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    assert weights(run(model, tmp_path)) == weights(whole)


def test_the_loss_is_that_of_the_answers_tokens_alone(model: Path) -> None:
    """The mean over the answer's tokens of their negative log-likelihoods, as computed from all logits."""
    import torch

    base = open_base(model, RECIPE)
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, -100)
    labels[0, 7:10], labels[1, 5:12] = ids[0, 7:10], ids[1, 5:12]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    logits = base.model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.log_softmax(-1)
    learned = [(row, place) for row in (0, 1) for place in range(1, 12) if labels[row, place] != -100]
    by_hand = -torch.stack([logits[row, place - 1, ids[row, place]] for row, place in learned]).mean()
    assert answer_loss(base.model, inputs).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert answer_loss(base.model, inputs, count=20).item() == pytest.approx(by_hand.item() * 10 / 20, rel=1e-5)


def test_the_distance_from_the_base_is_none_at_first_and_counts_later(model: Path) -> None:
    """KL(model || base) of an adapter that does nothing is 0; of one that does something it is above."""
    import torch
    from peft import get_peft_model

    base = open_base(model, RECIPE)
    config = adapter_config(RECIPE)
    assert config is not None
    with without_others_news():
        adapted = get_peft_model(base.model, config)
    ids = torch.randint(5, 60, (1, 10), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    assert answer_loss(adapted, inputs, kl=9.0).item() == pytest.approx(answer_loss(adapted, inputs).item(), rel=1e-5)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.add_(0.3)
    assert answer_loss(adapted, inputs, kl=9.0).item() > answer_loss(adapted, inputs).item() + 1e-3


def test_the_loss_behind_virtual_tokens_is_that_of_the_same_answers(model: Path) -> None:
    """What the model puts in front moves the answers' places; PEFT's own loss over all logits agrees."""
    import torch
    from peft import get_peft_model

    recipe = replace(RECIPE, method="prompt", virtual_tokens=5)
    config = adapter_config(recipe)
    assert config is not None
    with without_others_news():
        adapted = get_peft_model(open_base(model, recipe).model, config)
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, -100)
    labels[:, 8:11] = ids[:, 8:11]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    assert answer_loss(adapted, inputs, virtual=5).item() == pytest.approx(adapted(**inputs).loss.item(), rel=1e-5)


def test_what_is_kept_is_the_lowest_dev_loss_and_patience_ends_a_run() -> None:
    """The earliest of several lowest; no dev loss: the last step; patience 0 never ends."""
    losses = [{"step": step, "dev_loss": loss} for step, loss in ((2, 3.0), (4, 1.0), (6, 1.0), (8, 2.0))]
    assert (kept_step(losses, 9), kept_step([], 9)) == (4, 9)
    assert [is_over(losses, patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]


def test_without_dev_rows_the_last_step_is_kept(model: Path, tmp_path: Path) -> None:
    """Nothing is measured then."""
    found = run(model, tmp_path, dev=())
    assert (found.kept_step, found.steps) == (5, 5)
    assert all("dev_loss" not in line for line in found.losses)


def test_rows_beyond_max_length_are_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    """TRL would drop or cut them without a word; without max_length a row that the model cannot read is refused."""
    long = Example("long", ({"role": "user", "content": "stone " * 60},), "It is red.")
    recipe = replace(RECIPE, max_length=100, max_steps=1)
    base = open_base(model, recipe)
    assert fit(base, [*TRAIN, long], (), recipe, tmp_path / "left").left_out == 1
    endless = Example("endless", ({"role": "user", "content": "stone " * 600},), "It is red.")
    with pytest.raises(ConfigurationError, match="more than the 512 that tiny reads"):
        fit(base, [*TRAIN, endless], (), RECIPE, tmp_path / "refused")
    with pytest.raises(ConfigurationError, match="every row is longer than max_length=3"):
        fit(base, TRAIN, (), replace(RECIPE, max_length=3), tmp_path / "none")


def test_a_loss_that_is_no_number_is_an_error(model: Path, tmp_path: Path) -> None:
    """A rate that throws the weights away is told, and no adapter is kept."""
    with pytest.raises(TrainingError, match="lower the learning rate of 1e\\+30"):
        run(model, tmp_path, replace(RECIPE, learning_rate=1e30, max_grad_norm=1e30))


def test_the_callers_random_numbers_go_on_where_they_were(model: Path, tmp_path: Path) -> None:
    """A run seeds its own."""
    import torch

    random.seed(5)
    torch.manual_seed(5)
    wanted = random.random(), float(torch.rand(1))
    random.seed(5)
    torch.manual_seed(5)
    run(model, tmp_path, replace(RECIPE, max_steps=1))
    assert (random.random(), float(torch.rand(1))) == wanted


def test_a_kept_adapter_names_its_base_and_no_folder(whole: Fit, tmp_path: Path) -> None:
    """Where the base lies on this machine is nobody's to learn, and the file has the same bytes each time."""
    keep_adapter(whole.folder, tmp_path / "one", "tiny")
    keep_adapter(whole.folder, tmp_path / "one", "tiny")
    text = (tmp_path / "one" / "adapter_config.json").read_text("utf-8")
    assert '"base_model_name_or_path": "tiny"' in text
    assert str(tmp_path.parent) not in text
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("method", ["full", "prompt"])
def test_other_methods_train_too(model: Path, tmp_path: Path, method: Any) -> None:
    """All weights, or virtual tokens alone; kl is refused where there is no base beside what is trained."""
    with pytest.raises(ConfigurationError, match=f"kl: only an adapter .* {method}"):
        replace(RECIPE, method=method, kl=0.1)
    found = run(model, tmp_path, replace(RECIPE, method=method, max_steps=2, virtual_tokens=3))
    assert found.steps == 2
    assert all(math.isfinite(line["loss"]) for line in found.losses if "loss" in line)


# -- from a training set to the registry ------------------------------------------------------------------------------

SET = TrainingSet("stones", tuple(TRAIN), tuple(DEV), made_of={"options": "of the export"})
SHORT = replace(RECIPE, max_steps=2, replay=0.2)


def trained(model: Path, folder: Path, recipe: Recipe = SHORT, **options: Any) -> Trained:
    """A run of few rows, which must be asked for."""
    return train(SET, model, folder / "run", recipe, few_rows=True, **options)


def test_a_run_lands_in_the_registry_as_a_candidate_with_its_lineage(model: Path, tmp_path: Path) -> None:
    """Data, recipe, versions, base: all that made it; no alias of those that answer users moves."""
    made = trained(model, tmp_path, registry=tmp_path / "registry", name="stones")
    registry = AdapterRegistry(tmp_path / "registry")
    assert registry.aliases("stones") == {"candidate": made.version.sha256 if made.version else ""}
    version = registry.get("stones@candidate")
    lineage = version.lineage
    assert lineage["base"] == "tiny"
    assert lineage["data"]["options"] == "of the export"
    assert lineage["recipe"] == SHORT.to_json()
    assert {"torch", "peft", "trl", "python"} <= lineage["versions"].keys()
    assert version.made_for is not None
    assert version.made_for.name == "tiny"
    assert str(tmp_path) not in json.dumps(version.to_json())
    assert registry.check("stones@candidate", model), "it passes every check against its base"


def test_a_finished_run_is_not_made_again_and_another_one_is_refused(model: Path, tmp_path: Path) -> None:
    """The same call reads the report; other rows or another recipe need another folder."""
    first = trained(model, tmp_path)
    steps: list[int] = []
    known = AdapterRegistry(tmp_path / "registry")
    trained(model, tmp_path, registry=known)
    later = trained(model, tmp_path / "later", replace(SHORT, seed=1), registry=known)
    again = trained(model, tmp_path, registry=known, progress=lambda step, of, losses: steps.append(step))
    assert (again.report, steps) == (first.report, [])
    assert known.get("stones@candidate") == later.version, "the newer candidate stays"
    assert not (tmp_path / "run" / CHECKPOINTS).exists()
    with pytest.raises(ConfigurationError, match="recipe, rank was 4, is 8"):
        trained(model, tmp_path, replace(SHORT, rank=8))


def test_a_killed_run_is_gone_on_with_by_the_same_call(model: Path, tmp_path: Path) -> None:
    """And its adapter has the bytes of an unbroken one."""
    whole = trained(model, tmp_path / "whole")

    def killed(step: int, of: int, losses: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        trained(model, tmp_path / "killed", progress=killed)
    assert not (tmp_path / "killed" / "run" / "report.json").exists()
    again = trained(model, tmp_path / "killed")
    for name in ("adapter_model.safetensors", "adapter_config.json", "hybridmem.json"):
        assert (again.weights / name).read_bytes() == (whole.weights / name).read_bytes()


def test_the_report_says_what_was_done(model: Path, tmp_path: Path) -> None:
    """Rows, steps, losses and warnings, as JSON and as a page."""
    made = trained(model, tmp_path)
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert report == made.report
    assert report["data"] | {"longest": 0, "tokens": 0} == {
        "train": 20, "replayed": 5, "dev": 4, "test": 0, "facts_in_targets": None, "longest": 0, "tokens": 0
    }  # fmt: skip
    assert (report["steps"], report["planned_steps"]) == (2, 2)
    assert any("below 100 retrieval with a few examples" in warning for warning in report["warnings"])
    assert "stones" in (tmp_path / "run" / "report.html").read_text("utf-8")
    lines = (tmp_path / "run" / "losses.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == report["losses"]


def test_training_goes_on_from_an_adapter(model: Path, tmp_path: Path) -> None:
    """Its weights are where the next run begins: a step of no size leaves them as they are."""
    import numpy as np
    from safetensors.numpy import load_file

    first = trained(model, tmp_path / "first")
    recipe = replace(SHORT, learning_rate=1e-12, seed=3)
    further = trained(model, tmp_path / "further", recipe, start=first.weights, registry=tmp_path / "registry")
    assert AdapterRegistry(tmp_path / "registry").check("stones@candidate", model), (
        "made for the base, not for the start"
    )
    before, after = (load_file(made.weights / "adapter_model.safetensors") for made in (first, further))
    assert all(np.allclose(before[name], after[name], atol=1e-7) for name in before)
    assert any(np.abs(value).max() > 0 for name, value in after.items() if "lora_B" in name)
    assert (
        further.report["lineage"]["start"]
        == hashlib.sha256((first.weights / "adapter_model.safetensors").read_bytes()).hexdigest()
    )


def test_the_room_offers_what_users_call() -> None:
    """`training.train` and its like, without importing a library before they are used."""
    from llama_index_hybridmem import training

    assert training.train is train
    assert training.Recipe is Recipe
    assert callable(training.finetune)
    assert callable(training.improve)
    with pytest.raises(AttributeError, match="no attribute 'tune'"):
        _ = training.tune


def test_few_rows_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match="20 rows to train on: below 100 retrieval with a few examples"):
        train(SET, tmp_path / "no model", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_learned_is_served(model: Path, tmp_path: Path) -> None:
    """The adapter answers through LoraHuggingFaceLLM, alone and beside its base, better than the base does."""
    rows = [replace(each, completion="It is red.") for each in ROWS]
    known = TrainingSet("red", tuple(rows[:20]), tuple(rows[20:]))
    recipe = replace(RECIPE, rank=8, alpha=16, learning_rate=2e-2, epochs=8, evaluations=1, patience=0)
    made = train(known, model, tmp_path / "run", recipe, few_rows=True)
    found = before_and_after(model, made.weights, known.dev)
    assert found["scores"]["after"]["exact"] == 1.0
    assert found["scores"]["before"]["exact"] == 0.0
    assert found["scores"]["difference"]["low"] > 0
    assert found["answers"][0]["after"] == "It is red."


# -- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> int:
    """Run it; give the exit code."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module", name="rows_file")
def _rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows as a JSONL file of prompts and completions."""
    place = tmp_path_factory.mktemp("rows") / "stones.jsonl"
    place.write_text("".join(json.dumps({"id": each.id, **each.row()}) + "\n" for each in ROWS), "utf-8")
    return place


def test_the_command_trains_measures_and_registers(
    model: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows in, an adapter in the registry out, with what it brought, as JSON and in words."""
    asked: tuple[object, ...] = ("train", rows_file, "--base", model, "--out", tmp_path / "run", "--max-steps", 2)
    asked = (
        *asked,
        "--few-rows",
        "--rank",
        4,
        "--registry",
        tmp_path / "registry",
        "--name",
        "stones",
        "--precision",
        "fp32",
    )
    asked = (*asked, "--replay", 0)
    assert command(*asked, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"]["before"]["n"] == report["data"]["dev"] == 2
    assert report == json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert command(*asked) == 0
    told = capsys.readouterr().out
    assert "stones@candidate until it is promoted" in told
    assert "! 22 rows to train on" in told


def test_a_dry_run_trains_nothing_and_says_what_it_would_take(
    model: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters, share, memory and time, counted on the model's shape."""
    asked = ("train", rows_file, "--base", model, "--out", tmp_path / "run", "--rank", 4, "--replay", 0, "--dry-run")
    assert command(*asked) == 0
    assert "parameters (" in (told := capsys.readouterr().out)
    assert "! 22 rows to train on" in told
    assert command(*asked, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    opened = open_base(model, Recipe())
    whole = sum(weight.numel() for weight in opened.model.parameters())
    # each adapted layer of a rows x b columns gets rank 4 x (a + b)
    layers = [part for name, part in opened.model.named_modules() if name.endswith("_proj")]
    adapter = sum(4 * (part.in_features + part.out_features) for part in layers)
    assert (plan["parameters"], plan["trainable"]) == (whole + adapter, adapter)
    assert plan["steps"] == 6
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--rank", "0"), "--rank: a whole number of at least 1"),
        (("--method", "magic"), "--method: no 'magic'; there are lora, qlora, full, prompt"),
        (("--learning-curve", "many"), "--learning-curve: numbers of rows as 100,250,500, not 'many'"),
        (("--start", "stones@prod"), "--start stones@prod: no such folder; to name a version, give --registry"),
        ((), "22 rows to train on: below 100 retrieval"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    model: Path,
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    told: str,
) -> None:
    """With the option's name; nothing is trained."""
    assert command("train", rows_file, "--base", model, "--out", tmp_path / "run", *options) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="two processes that import torch: run by make soak")
def test_two_processes_train_what_one_trains(model: Path, rows_file: Path, tmp_path: Path) -> None:
    """As accelerate starts them, one a GPU, here on the CPU: the same steps over the same rows, but for rounding."""
    import numpy as np
    from safetensors.numpy import load_file

    asked = ["train", str(rows_file), "--base", str(model), "--few-rows", "--max-steps", "2", "--rank", "4"]
    asked += ["--batch-size", "8", "--micro-batch", "2", "--replay", "0", "--precision", "fp32", "--measure", "0"]
    bin_ = Path(sys.executable).parent
    start = [str(bin_ / "torchrun"), "--standalone", "--nproc_per_node", "2", "--no-python", str(bin_ / "hybridmem")]
    subprocess.run([*start, *asked, "--out", str(tmp_path / "two")], check=True, timeout=600, capture_output=True)
    assert command(*asked, "--out", tmp_path / "one") == 0
    one, two = (load_file(tmp_path / each / "adapter" / "adapter_model.safetensors") for each in ("one", "two"))
    assert all(np.allclose(one[name], two[name], atol=1e-6) for name in one)
    assert max(float(np.abs(value).max()) for name, value in two.items() if "lora_B" in name) > 1e-5


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="three more runs and six scales: run by make soak")
def test_the_command_measures_curves(
    model: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The learning curve over parts of the rows, and the adapter at several scales; called again, they are there."""
    asked: tuple[object, ...] = ("train", rows_file, "--base", model, "--out", tmp_path / "run", "--max-steps", 2)
    asked = (*asked, "--few-rows", "--rank", 4, "--precision", "fp32", "--learning-curve", "6,12", "--scaling")
    assert command(*asked, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [point["rows"] for point in report["learning_curve"]["points"]] == [6, 12]
    assert len(report["scaling_curve"]["scales"]) == 6
    assert command(*asked) == 0
    assert "cannot be told" in capsys.readouterr().out, "two sizes are too few for a curve"
