"""One model, its adapters and the requests that it answers, on one thread; no LlamaIndex here."""
