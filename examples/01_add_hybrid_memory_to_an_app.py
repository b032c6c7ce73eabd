"""An ordinary LlamaIndex RAG app over the sample documents, and the five lines that give it hybrid memory.

    python examples/01_add_hybrid_memory_to_an_app.py          # sources, facts and best sentences: no language model
    python examples/01_add_hybrid_memory_to_an_app.py --llm    # answers of SmolLM2-135M (extra `lora`)

Runs offline as it stands (extra `encoder`). Each question needs two
documents; the second is found by the names they share.
"""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path

from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.schema import NodeWithScore

from llama_index_hybridmem import HybridMemoryIndex, MiniLMEmbedding
from llama_index_hybridmem.sample import documents_folder

QUESTIONS = [
    "Which investor led the purchase of the memory business of the company that presented BiCS in 2007?",
    "In which city does the company that bought Intel's NAND business have its headquarters?",
]


def names(nodes: list[NodeWithScore]) -> list[str]:
    """The files that nodes come from, best first."""
    return list(dict.fromkeys(Path(found.node.metadata["file_name"]).stem for found in nodes))


llm = None
if "--llm" in sys.argv[1:]:
    from llama_index_hybridmem.llms.smollm2 import smollm2

    llm = smollm2(max_new_tokens=48)

# The app as it was: documents, an embedding, a vector index.
documents = SimpleDirectoryReader(documents_folder()).load_data()
vector_index = VectorStoreIndex.from_documents(documents, embed_model=MiniLMEmbedding())
retriever = vector_index.as_retriever(similarity_top_k=4)

# The five lines: keyword memory and an entity graph beside the vectors, and an engine that asks all three.
memory = HybridMemoryIndex.from_existing(vector_index=vector_index)
if llm is None:
    engine = memory.as_query_engine(similarity_top_k=4, response_mode="no_text")  # sources and facts
else:
    engine = memory.as_query_engine(llm, similarity_top_k=4)

for question in QUESTIONS:
    response = engine.query(question)
    print(f"\n{question}\n  {'vectors alone':<28}hybrid memory")
    before, after = names(retriever.retrieve(question)), names(response.source_nodes)
    for left, right in zip_longest(before, after, fillvalue=""):
        print(f"  {left:<28}{right}")
    print(response)

memory.close()
