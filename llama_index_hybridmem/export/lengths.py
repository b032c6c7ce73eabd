"""How long rows are in tokens, and what a trainer's ``max_length`` would do to them; knows no record.

TRL cuts a row at the end, where the answer is. Of a prompt and completion of which the prompt alone fills
``max_length`` it drops the row without a word; of ``messages`` it trains on the prompt's beginning (read and run with
TRL 1.16).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from llama_index_hybridmem import extras
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.record import encodable
from llama_index_hybridmem.export.shapes import LengthReport, Spread

MAX_LENGTH = 1024
"""TRL's default."""
STEP = 64
"""Recommended lengths are multiples of it: what GPUs compute in full tiles."""
ESTIMATE = "estimate: a token for every four bytes, and four for each part"
"""Named as the tokenizer where there is none."""

_BATCH = 256
_BYTES, _FRAME = 4, 4  # as `hybridmem report` estimates
_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
Messages = list[dict[str, str]]


class Lengths:
    """Measures rows as they pass; keeps how often each length occurs, not the rows.

    Args:
        format_: name of the rows' format.
        tokenizer: name or folder of one of transformers, any object with ``encode``, a function of a text to its
            tokens, or None for the estimate.
        max_length: to be judged; None: TRL's default, `MAX_LENGTH`.

    Raises:
        ConfigurationError: no tokenizer of that name, or no length.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, format_: str, tokenizer: Any = None, max_length: int | None = None) -> None:
        if max_length is not None and max_length < 1:
            raise ConfigurationError(f"max_length is at least 1, not {max_length}")
        self._format = format_
        self._name, self._tokenizer = _named(tokenizer)
        self._count = _counter(self._tokenizer)
        self._max = max_length or MAX_LENGTH
        self._waiting: list[tuple[str, str, str, bool]] = []  # id, prompt, and the rest or all of the row
        self._prompts: Counter[int] = Counter()
        self._completions: Counter[int] = Counter()
        self._totals: Counter[int] = Counter()
        self._cut = self._gone = 0
        self._examples: list[str] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of a format file.

        Raises:
            ConfigurationError: it is a row of no format that is known.
        """
        prompt, whole = (encodable(text) for text in self._rendered(row))
        rest = whole.removeprefix(prompt) if whole.startswith(prompt) else None  # counted once, not twice
        id_ = str(row.get("id", f"row {self._totals.total() + len(self._waiting) + 1}"))
        self._waiting.append((id_, prompt, whole if rest is None else rest, rest is None))
        if len(self._waiting) == _BATCH:
            self._measure()

    def result(self) -> LengthReport:
        """Give what was measured so far."""
        self._measure()
        totals, rows = self._totals, self._totals.total()
        longest, p99 = (_quantile(totals, share) for share in (1, 0.99))
        usual = None if p99 is None else _rounded(p99)
        return LengthReport(
            self._format,
            self._name,
            self._tokenizer is None,
            rows,
            _spread(self._prompts),
            _spread(self._completions),
            _spread(totals),
            self._max,
            self._cut,
            self._gone,
            None if longest is None else _rounded(longest),
            usual,
            0 if usual is None else sum(n for length, n in totals.items() if length > usual),
            tuple(self._examples),
        )

    def _rendered(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """The prompt as the model gets it, and the whole row."""
        prompt, completion = parted(row)
        if isinstance(prompt, str):  # TRL ends such an answer itself
            return prompt, prompt + _text(completion) + (getattr(self._tokenizer, "eos_token", None) or "")
        both = [*prompt, *completion] if not isinstance(completion, str) else prompt
        template = getattr(self._tokenizer, "apply_chat_template", None)
        if template is None or not getattr(self._tokenizer, "chat_template", None):
            head = "".join(f"{each['role']}\n{each['content']}\n" for each in prompt)
            return head, head + _text(completion)
        started = template(prompt, tokenize=False, add_generation_prompt=True)
        return str(started), str(template(both, tokenize=False))

    def _measure(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        counts = self._count([text for _, *texts, _ in waiting for text in texts])
        for place, (id_, *_, is_whole) in enumerate(waiting):
            prompt, other = counts[2 * place], counts[2 * place + 1]
            whole = other if is_whole else prompt + other
            self._prompts[prompt] += 1
            self._completions[max(whole - prompt, 0)] += 1
            self._totals[whole] += 1
            if whole > self._max:
                self._gone += prompt >= self._max
                self._cut += prompt < self._max
                if len(self._examples) < 10:
                    self._examples.append(id_)


def parted(row: Mapping[str, Any]) -> tuple[str | Messages, str | Messages]:
    """Part a row of any format into what is given and what is to be learned.

    Args:
        row: of prompt-completion, messages or openai, completion, alpaca, sharegpt.

    Raises:
        ConfigurationError: it is none of these.
    """
    try:
        if "prompt" in row:
            return row["prompt"], row["completion"]
        if "instruction" in row:
            return "\n\n".join(filter(None, (row.get("system"), row["instruction"], row.get("input")))), row["output"]
        if "messages" in row:
            return list(row["messages"][:-1]), list(row["messages"][-1:])
        turns = [{"role": _ROLES[each["from"]], "content": each["value"]} for each in row["conversations"]]
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        return [*system, *turns[:-1]], turns[-1:]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"a row of no known format, with the fields {', '.join(map(str, row))}") from error


def _text(completion: str | Messages) -> str:
    return completion if isinstance(completion, str) else "".join(each["content"] for each in completion)


def _named(tokenizer: Any) -> tuple[str, Any]:
    if tokenizer is None:
        return ESTIMATE, None
    if not isinstance(tokenizer, str):
        return _public(str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)), tokenizer
    extras.require("counting tokens with a model's tokenizer", "lora", "transformers")
    from transformers import AutoTokenizer

    try:
        return _public(tokenizer), AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no tokenizer {tokenizer!r}: {error}") from error


def _public(name: str) -> str:
    """A name on the hub as it is, of a folder its last part: reports are shared, paths of a machine are not."""
    path = PurePath(name)
    return path.name if path.is_absolute() or path.parts[:1] in (("..",), ("~",)) else name


def _counter(tokenizer: Any) -> Callable[[Sequence[str]], list[int]]:
    """How many tokens each of several texts has; the texts hold the frame of the template already."""
    if tokenizer is None:
        return lambda texts: [-(-len(text.encode("utf-8", "surrogatepass")) // _BYTES) + _FRAME for text in texts]
    if hasattr(tokenizer, "apply_chat_template"):  # transformers: a fast one counts in many threads
        return lambda texts: [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    encode = getattr(tokenizer, "encode", tokenizer)
    return lambda texts: [len(encode(text)) for text in texts]


def _rounded(length: int) -> int:
    return -(-length // STEP) * STEP


def _spread(counts: Counter[int]) -> Spread:
    if not counts:
        return Spread()
    longest = max(counts)
    width = max(1, -(-(longest + 1) // 24))  # two dozen bins are as many as a narrow page can show
    width = width if width < STEP else _rounded(width)
    bins: Counter[int] = Counter()
    for length, n in counts.items():
        bins[length // width] += n
    histogram = tuple((at * width, (at + 1) * width, bins[at]) for at in range(longest // width + 1))
    median, p95, p99 = (_quantile(counts, share) for share in (0.5, 0.95, 0.99))
    return Spread(min(counts), median, p95, p99, longest, histogram)


def _quantile(counts: Counter[int], share: float) -> int | None:
    """The length that so many rows do not exceed."""
    wanted, passed = share * counts.total(), 0
    for length in sorted(counts):
        passed += counts[length]
        if passed >= wanted:
            return length
    return None
