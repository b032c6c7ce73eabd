"""An app's own retrieval failures become training data: measured, made again on purpose, labelled by what is left.

    python examples/05_turn_failures_into_training_data.py       # extras `cli`, `encoder` and `noise`

Runs offline as it stands, in about half a minute of CPU: the sample documents in a store of its own, the questions that
come with them, no language model. With your own app: your store or any retriever, and your questions as JSON lines with
"question", "answer" and "expected_sources"; the rest stays as it is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from llama_index.core import SimpleDirectoryReader

from llama_index_hybridmem import (
    CostLatencyHandler,
    ExportOptions,
    HybridMemoryIndex,
    NoiseInjectionPostprocessor,
    NoiseProfile,
    RetrievalTraces,
    Wording,
    export_dataset,
)
from llama_index_hybridmem.cli.main import main as hybridmem
from llama_index_hybridmem.export.asking import read_asked
from llama_index_hybridmem.sample import documents_folder, questions_path

folder = Path(tempfile.mkdtemp())
index = HybridMemoryIndex.from_documents(
    SimpleDirectoryReader(str(documents_folder())).load_data(), persist_dir=folder / "store"
)

print("== 1. What would this app answer from, if what it retrieves were cut, broken and out of date? ==")
broken = NoiseInjectionPostprocessor(rates={"truncation": 0.6, "markdown": 0.6, "stale": 0.3})
question = "In which year was Robert Dennard born?"
for found in broken.postprocess_nodes(index.as_retriever(similarity_top_k=3).retrieve(question), query_str=question):
    done = [each["operator"] for each in found.node.metadata.get("hybridmem_noise", {}).get("damage", [])]
    print(f"{', '.join(done) or 'as it was'}: {found.text[:80]!r}")

print("\n== 2. How does it fail here? Record what queries get, and measure it ==")
engine = index.as_query_engine(response_mode="no_text", similarity_top_k=5)
with CostLatencyHandler(exporters=[RetrievalTraces(folder / "retrievals.jsonl")]).attach() as handler:
    for asked in read_asked(questions_path()):
        engine.query(asked.question)
    handler.flush()
measured = NoiseProfile.from_traces(folder / "retrievals.jsonl")
measured.save(folder / "profile.json")
for kind, rate in measured.kinds.items():
    if rate.rate:
        print(f"{kind:<14} {rate.rate:6.1%}  ({rate.low:.1%} … {rate.high:.1%})")

print("\n== 3. A training set from the same questions and passages: a quarter of it must abstain ==")
wording = Wording(target="reasoned")  # quotes, a reason that names what is broken, the answer
options = ExportOptions(wording=wording, abstain_share=0.25, formats=("prompt-completion", "openai"))
profile = measured.completed(NoiseProfile.default())  # what could not be measured, as it is elsewhere
told = export_dataset(index, questions_path(), folder / "training", options, profile)
index.close()
print(f"{told.tallies.records} records; {told.verdict[1]}")
for line in told.noise.lines:
    if line.target and line.achieved:
        print(f"{line.kind:<14} wanted {line.target.share:6.1%}   achieved {line.achieved.share:6.1%}")

print("\n== 4. One record with its damage, and whether every row is what it should be ==")
for command in (["inspect", "--n", "1"], ["validate"]):
    try:
        hybridmem(["dataset", command[0], str(folder / "training"), *command[1:]])
    except SystemExit as ended:
        print(f"hybridmem dataset {command[0]} ended with {ended.code or 0}")

print(f"\nThe page: {folder / 'training' / 'report.html'}\nThe rows: {folder / 'training' / 'prompt-completion'}")
