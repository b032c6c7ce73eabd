"""LoRA training on exported records."""
