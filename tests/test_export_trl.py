"""The rows in the hands of those they are made for: TRL trains on them, `datasets` reads them back from Parquet."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_index_hybridmem.errors import ConfigurationError, StoreError
from llama_index_hybridmem.export.formats import FORMATS, row, tell
from llama_index_hybridmem.export.parquet import write_parquet
from llama_index_hybridmem.export.record import Quote, Record
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.noise.scene import Damage, Passage

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning"  # TRL sets it by the name that transformers drops
)

WORDING = Wording(target="reasoned")
TOPICS = ("refunds", "parking", "lunch", "letters", "keys", "visits")
MARGIN = 8  # tokens: a completion row separates its parts by other words than a chat template
FILLER = "The house has rules for this, and they hang at the door where everybody can read them. "
ROLES = """\
{%- for message in messages %}
{%- if message.role in ("assistant", "gpt") %}<|im_start|>assistant
{% generation %}{{ message.content }}<|im_end|>
{% endgeneration %}
{%- else %}<|im_start|>{{ {"human": "user"}.get(message.role, message.role) }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""A chat template that says what the assistant generates, and knows ShareGPT's names of the roles."""


def record(number: int) -> Record:
    """Of every three, one abstains; some of its passages are damaged."""
    topic = TOPICS[number % len(TOPICS)]
    text = f"{FILLER * (number % 4)}About {topic}: it takes {number + 2} days. {FILLER}"
    gold = Passage("g", text, {"title": topic.capitalize(), "date": "2025-01-07"})
    off = Passage("x", FILLER, {}, damage=(Damage("irrelevant_passage", "irrelevant", 1.0, "s", "0" * 16),))
    fits = number % 3 > 0
    noisy = (off, gold) if fits else (off,)
    quotes = (Quote("g", f"it takes {number + 2} days."),) if fits else ()
    answer = f"It takes {number + 2} days."
    question = f"How long does {topic} take, número {number}? \N{SNOWMAN}"
    return Record(
        f"r{number}", question, answer, answer, fits, (gold,), noisy, (), frozenset("g"), quotes, f"0:r{number}", "p"
    )


RECORDS = [record(number) for number in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each format, as an export writes them."""
    made = tmp_path_factory.mktemp("rows")
    for format in FORMATS:
        lines = [json.dumps(row(each, format, WORDING), ensure_ascii=False) for each in RECORDS]
        (made / f"{format}.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    return made


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Made of the texts on the spot: bytes with a few merges, an end of turn, a pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    told = [text for each in RECORDS for text in (tell(each, WORDING).user, tell(each, WORDING).assistant)]
    made.train_from_iterator(told, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens(["<|im_start|>", "<|im_end|>", "<pad>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<pad>", chat_template=ROLES, model_max_length=4096
    )


@pytest.fixture(scope="module")
def lengths(tokenizer: Any) -> list[int]:
    """What the rows take, in tokens; the longest is the max_length to train with."""
    messages = [row(each, "messages", WORDING)["messages"] for each in RECORDS]
    return sorted(len(tokenizer.apply_chat_template(each)["input_ids"]) for each in messages)


def model(tokenizer: Any) -> Any:
    """A Llama of a few thousand parameters, which has learnt nothing."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, **sizes, **ends))


def trainer(rows: Any, tokenizer: Any, out: Path, max_length: int, **given: Any) -> Any:
    """TRL's, on the CPU."""
    config = trl.SFTConfig(
        output_dir=str(out),
        max_length=max_length,
        max_steps=2,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **given,
    )
    return trl.SFTTrainer(model(tokenizer), args=config, train_dataset=rows, processing_class=tokenizer)


def load(folder: Path, format: str, cache: Path) -> Any:
    """Read a file as users do."""
    path = str(folder / f"{format}.jsonl")
    return datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(cache))


def learnt(made: Any, tokenizer: Any) -> Iterator[str]:
    """What of each row the loss falls on, out of the collated batches."""
    for each in made.train_dataset:
        labels = made.data_collator([each])["labels"][0]
        yield tokenizer.decode([label for label in labels.tolist() if label != -100])


@pytest.mark.parametrize("format", ["prompt-completion", "messages", "completion", "sharegpt"])
def test_trl_trains_on_every_row_and_the_loss_falls_on_the_answer_alone(
    format: str, folder: Path, tokenizer: Any, lengths: list[int], tmp_path: Path
) -> None:
    """No row is dropped, the unmasked tokens are the target with its end, and training gives a finite loss."""
    rows = load(folder, format, tmp_path)
    if format == "sharegpt":
        rows = rows.map(trl.maybe_convert_to_chatml, remove_columns="conversations")
    only = {"assistant_only_loss": True} if format in ("messages", "sharegpt") else {}
    made = trainer(rows, tokenizer, tmp_path, lengths[-1] + MARGIN, **only)
    assert len(made.train_dataset) == len(RECORDS)
    told = [text.removesuffix("\n") for text in learnt(made, tokenizer)]
    assert told == [tell(each, WORDING).assistant + "<|im_end|>" for each in RECORDS]
    made.train()
    assert math.isfinite(made.state.log_history[-1]["train_loss"])


def test_below_the_longest_row_trl_drops_rows_and_cuts_answers_without_a_word(
    folder: Path, tokenizer: Any, lengths: list[int], tmp_path: Path
) -> None:
    """Why an export counts tokens: what stands at the end, and is lost, is the answer."""
    made = trainer(load(folder, "prompt-completion", tmp_path), tokenizer, tmp_path, lengths[5])
    assert 0 < len(made.train_dataset) < len(RECORDS)
    assert not all("<|im_end|>" in text for text in learnt(made, tokenizer))


@pytest.mark.parametrize("format", FORMATS)
def test_datasets_loads_equal_rows_from_parquet(format: str, folder: Path, tmp_path: Path) -> None:
    """Of all shards, in their order, whatever the format."""
    path, shard = tmp_path / "rows.parquet", folder / f"{format}.jsonl"
    assert write_parquet([shard, shard], path) == 2 * len(RECORDS)
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == 2 * [row(each, format, WORDING) for each in RECORDS]


def test_parquet_is_written_in_batches_and_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the rows take no more of it; a row group has a batch's rows."""
    monkeypatch.setattr("llama_index_hybridmem.export.parquet.BATCH", 100)
    peaks = []
    for rows in (200, 1600):
        given = write(tmp_path / f"{rows}.jsonl", [{"id": f"{at}", "text": "x" * 1000} for at in range(rows)])
        tracemalloc.start()
        write_parquet([given], tmp_path / f"{rows}.parquet")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    from pyarrow.parquet import ParquetFile

    assert ParquetFile(tmp_path / "1600.parquet").num_row_groups == 16


def write(path: Path, rows: list[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "no rows"),
        ([{"id": "a"}, ["b"]], r"b\.jsonl, line 2: a JSON object"),
        ([{"id": "a"}, {"id": "b", "more": "c"}], r"b\.jsonl, line 2: has id: str; more: str"),
        ([{"id": "a"}, {"id": None}], r"b\.jsonl, line 2: has id: NoneType"),
        ([{"t": [{"role": "x"}]}, {"t": [{"role": "x", "weight": "1"}]}], r"b\.jsonl, line 2: has t: list"),
        ([{"id": 3}], r"b\.jsonl, line 1, id: a text"),
    ],
    ids=["none", "list", "column", "null", "turn", "number"],
)
def test_rows_of_several_kinds_make_no_parquet(tmp_path: Path, rows: list[Any], named: str) -> None:
    """Arrow would fill up with null and drop what it does not know; nothing is left behind."""
    with pytest.raises(ConfigurationError, match=named):
        write_parquet([write(tmp_path / "b.jsonl", rows)], tmp_path / "b.parquet")
    assert [each.name for each in tmp_path.iterdir()] == ["b.jsonl"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """No file, or no text."""
    with pytest.raises(StoreError, match="gone"):
        write_parquet([tmp_path / "gone.jsonl"], tmp_path / "b.parquet")
    (tmp_path / "b.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(ConfigurationError, match="line 1: no JSON"):
        write_parquet([tmp_path / "b.jsonl"], tmp_path / "b.parquet")
