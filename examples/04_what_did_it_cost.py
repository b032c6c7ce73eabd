"""What did every query cost, and where did its time go? A LlamaIndex app learns it in one line.

    python examples/04_what_did_it_cost.py       # extras `cli`, `prices` and `report`

Runs offline as it stands, in seconds, for both models are stand-ins: they call themselves what OpenAI's are called, so
that they are priced as those are, and answer with a line of the sources. Put `OpenAI(model="gpt-4o-mini")` and
`OpenAIEmbedding()` in their place, or any other models; nothing else changes. The same with plots:
04_what_did_it_cost.ipynb.
"""

from __future__ import annotations

import re
import tempfile
import time
import zlib
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_index.core import SimpleDirectoryReader
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback

from llama_index_hybridmem import Budget, CostLatencyHandler, HybridMemoryIndex, JsonlTraces, PriceBook, read_traces
from llama_index_hybridmem.cli.main import main as hybridmem
from llama_index_hybridmem.errors import BudgetExceededError
from llama_index_hybridmem.sample import documents_folder

# -- two stand-ins ----------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"\w+", text.lower())


class StandInLLM(CustomLLM):
    """Answers with the line of its prompt that has most words of the question, a word each millisecond."""

    max_tokens: int = 64

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex's `OpenAI` says here, which decides whose prices hold."""
        return "openai_llm"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(model_name="gpt-4o-mini", num_output=self.max_tokens, context_window=128_000)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer at once."""
        return list(self._written(prompt))[-1]

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer word by word."""
        return self._written(prompt)

    def _written(self, prompt: str) -> Generator[CompletionResponse, None, None]:
        asked = set(words(prompt.rpartition("Question:")[2]))
        lines = prompt.partition("\nAnswer the question")[0].splitlines()
        answer = max(lines, key=lambda line: len(asked.intersection(words(line)))).split()[: self.max_tokens // 2]
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 2 * len(answer)}
        for place, word in enumerate(answer, start=1):
            time.sleep(0.001)
            raw = {"usage": usage} if place == len(answer) else None
            yield CompletionResponse(text=" ".join(answer[:place]), delta=f"{word} ", raw=raw)


class StandInEmbedding(BaseEmbedding):
    """Counts words into 256 places."""

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex's `OpenAIEmbedding` says here."""
        return "OpenAIEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        places = [0.01] * 256
        for word in words(text):
            places[zlib.crc32(word.encode()) % 256] += 1.0
        return places

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


# -- the app as it was, and the one line ------------------------------------------------------------------------------

folder = Path(tempfile.mkdtemp(prefix="hybridmem-example-04-"))
llm = StandInLLM()

handler = CostLatencyHandler(exporters=[JsonlTraces(folder / "traces.jsonl")]).install()  # the one line

names = "robert-dennard dram-cell sram-cell ddr4 ddr5 hbm3 row-hammer everspin toggle-mram".split()
documents = SimpleDirectoryReader(input_files=[documents_folder() / f"{name}.md" for name in names]).load_data()
embedding = StandInEmbedding(model_name="text-embedding-3-small")
memory = HybridMemoryIndex.from_documents(documents, embed_model=embedding)
engine = memory.as_query_engine(llm, similarity_top_k=4)

# -- who asks, and what it costs --------------------------------------------------------------------------------------

QUESTIONS = {
    "acme": [
        "In which year was Robert Dennard born?",
        "Which needs the lower supply voltage, DDR4 or DDR5?",
        "How do the cell areas of SRAM and DRAM compare?",
        "Thanks a lot, that was very helpful!",
    ],
    "bravo": [
        "What bandwidth does one HBM3 stack deliver?",
        "Who invented the write scheme of Everspin's older product line?",
        "Who painted Girl with a Pearl Earring?",
    ],
}

for tenant, questions in QUESTIONS.items():
    with handler.tags(tenant=tenant):  # user=, run=, phase= and names of your own, too
        for question in questions:
            engine.query(question)

print("== Every query: who, by which route, how long, what for\n")
for trace in handler.traces():
    read, written = trace.tokens()
    cost = "unpriced" if trace.cost is None else f"${trace.cost:.6f}"
    print(
        f"  {trace.phase:<7}{trace.tenant or '–':<7}{trace.route or '–':<11}{trace.answer or '–':<11}"
        f"{1000 * trace.wall_s:>6.0f} ms {read:>6,} + {written:<3} tokens  {cost}"
    )

one = handler.traces()[-2]
print(f"\n== One of them closely: {one.name}, tenant {one.tenant}\n")
for stage in one.stages:
    print(f"  {stage.name:<12}{1000 * stage.wall_s:>7.1f} ms, begun after {1000 * stage.started_s:.1f} ms")
for call in one.calls:
    count = "nobody knows" if call.usage is None else f"{call.usage.input:,} + {call.usage.output} {call.usage.source}"
    print(f"  {call.kind:<10}{call.model}: {count}, ${call.cost} by {call.price}")

# -- streams ----------------------------------------------------------------------------------------------------------

streaming = memory.as_query_engine(llm, similarity_top_k=4, streaming=True)
with handler.tags(tenant="acme"):
    whole: Any = streaming.query("In which year was row hammer first published?")
    for _ in whole.response_gen:
        pass
    broken: Any = streaming.query("In which year was row hammer first published?")
    next(broken.response_gen)
    broken.response_gen.close()  # the user has gone; what was written until then is counted, too

print("\n== Two streams: one read to its end, one left after a word\n")
for trace in handler.traces()[-2:]:
    first = f"first token after {1000 * (trace.first_token_s or 0):.0f} ms"
    counted = ", ".join(f"{call.usage.output} {call.usage.source}" for call in trace.calls[-1:] if call.usage)
    print(f"  {trace.status:<10}{first}, end after {1000 * trace.wall_s:.0f} ms, tokens written: {counted}")

# -- a hard limit -----------------------------------------------------------------------------------------------------

budget = Budget(
    handler,
    per_tenant="0.001",
    alert_at=[0.5],  # a soft limit, which only tells
    on_alert=lambda alert: print(f"  alert: {alert.share:.0%} of {alert.tenant}'s ${alert.limit_value} are spent"),
)
limited = memory.as_query_engine(budget.guard(llm), similarity_top_k=4)  # guard gives a copy; llm stays as it is

print("\n== A limit of $0.001 a day for each tenant\n")
with handler.tags(tenant="bravo", engine="limited"):
    for number in range(1, 100):
        try:
            limited.query("In which year was row hammer first published?")
        except BudgetExceededError as error:
            print(f"  query {number} was not sent: {error}")
            break
print(f"  spent: ${budget.spent('bravo'):f}")

# -- other prices -----------------------------------------------------------------------------------------------------

answered = [trace for trace in handler.traces() if trace.phase == "query"]
own_machine = PriceBook().self_hosted("gpt-4o-mini", per_hour="2.49", source="our GPU contract", read_on="2026-11-01")
haiku = ("anthropic", "claude-haiku-4-5")
ways = {
    "as it was": answered,
    "had claude-haiku-4-5 answered": [PriceBook().reprice(trace, as_model=haiku) for trace in answered],
    "had a machine of our own, by the seconds it was busy": [own_machine.reprice(trace) for trace in answered],
}
print(f"\n== The same {len(answered)} queries at other prices\n")
for way, traces in ways.items():
    unpriced = sum(trace.unpriced for trace in traces)
    print(f"  ${sum(trace.cost_known for trace in traces):.6f}  {way}; {unpriced} calls without a price")

# -- what stays -------------------------------------------------------------------------------------------------------

health = handler.health()
handler.close()
memory.close()
written = len(list(read_traces(folder / "traces.jsonl")))
print(f"\n== How the measuring went: {health['traces']} traces, {health['faults']} faults, {health['open']} open;")
print(f"   {written} lines in {folder / 'traces.jsonl'}\n")

# On the command line: hybridmem report traces.jsonl -o report.html
with suppress(SystemExit):
    hybridmem(["report", str(folder / "traces.jsonl"), "-o", str(folder / "report.html")])
