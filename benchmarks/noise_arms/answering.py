"""Asks a model, and keeps every answer on disk: a run that was stopped goes on where it was; knows no label.

An answer's key is a hash of all that decides it: the weights, the adapter's, the prompt, and how it is decoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from tqdm import tqdm

from llama_index_hybridmem.example import Example
from llama_index_hybridmem.llms.adapters.files import WEIGHTS_FILE
from llama_index_hybridmem.llms.copying import CopyConstraint
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM

MAX_NEW_TOKENS = 24
AT_ONCE = 32
"""Rows that are kept together when they are answered: what a stop costs."""

logger = logging.getLogger(__name__)


@dataclass
class Asker:
    """One base with its adapters, and the answers that it gave.

    Attributes:
        llm: it.
        weights: names the base: a hash.
        folder: a file of answers for each arm.
        adapters: arm to the folder of its adapter; others are answered by the base.
        spent: seconds, CPU seconds, and the number of answers of this run.
    """

    llm: LoraHuggingFaceLLM
    weights: str
    folder: Path
    adapters: Mapping[str, Path] = field(default_factory=dict)
    spent: tuple[float, float, int] = (0.0, 0.0, 0)

    def answers(self, arm: str, examples: Sequence[Example], *, copies: bool = False) -> list[str]:
        """Give an arm's answers to some rows, in their order; asks what is not known yet.

        Args:
            arm: of the file; with the name of an adapter, that adapter answers.
            examples: the rows.
            copies: whether an answer must stand in the row's sources, or be the words of abstention.
        """
        path = self.folder / f"{arm}{'-copied' if copies else ''}.jsonl"
        made_by = self._made_by(arm)
        keys = [self._key(made_by, each, copies) for each in examples]
        known = _known(path)
        missing = [(key, each) for key, each in zip(keys, examples, strict=True) if key not in known]
        with path.open("a", encoding="utf-8") as file:
            for start in tqdm(range(0, len(missing), AT_ONCE), path.stem, leave=False, disable=not missing):
                for key, answer in self._ask(arm, missing[start : start + AT_ONCE], copies):
                    known[key] = answer
                    file.write(json.dumps({"key": key, "answer": answer}) + "\n")
                file.flush()
        return [known[key] for key in keys]

    def _made_by(self, arm: str) -> str:
        folder = self.adapters.get(arm)
        return "" if folder is None else hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()

    def _key(self, made_by: str, example: Example, copies: bool) -> str:
        sources = example.sources if copies else ()
        turns = [dict(each) for each in example.prompt]
        decided = [self.weights, self.llm.dtype, made_by, turns, sources, MAX_NEW_TOKENS]
        return hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:24]

    def _ask(self, arm: str, rows: Sequence[tuple[str, Example]], copies: bool) -> Iterator[tuple[str, str]]:
        began, cpu = time.perf_counter(), time.process_time()
        adapter = arm if arm in self.adapters else None

        def ask(example: Example) -> str:
            messages = [ChatMessage(role=each["role"], content=each["content"]) for each in example.prompt]
            options: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "stop": ["\n"], "adapter": adapter}
            if copies:
                options["logits_processor"] = [CopyConstraint(self._tokenizer(), example.sources, marks=False)]
            return str(self.llm.chat(messages, **options).message.content or "").partition("\n")[0].strip()

        with ThreadPoolExecutor(len(rows)) as threads:
            said = list(threads.map(ask, [example for _, example in rows]))
        took = (time.perf_counter() - began, time.process_time() - cpu, len(rows))
        self.spent = (self.spent[0] + took[0], self.spent[1] + took[1], self.spent[2] + took[2])
        return zip([key for key, _ in rows], said, strict=True)

    def _tokenizer(self) -> Any:
        return self.llm._base.loaded().tokenizer


def _known(path: Path) -> dict[str, str]:
    """Answers that are there; a last line that a kill tore is asked again."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    text = path.read_text(encoding="utf-8")
    whole, _, torn = text.rpartition("\n")
    if torn:
        logger.warning("%s: its last line is torn, and asked again", path)
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    for line in whole.splitlines():
        row = json.loads(line)
        found[row["key"]] = row["answer"]
    return found
