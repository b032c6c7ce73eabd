"""Language models that run here or elsewhere, behind LlamaIndex's LLM interface."""
