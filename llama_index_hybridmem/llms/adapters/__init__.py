"""LoRA adapters on disk: checked, by name, in immutable versions; no model runs here."""
