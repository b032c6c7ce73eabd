"""Semantic and keyword memory: an engine inside the process, or a Qdrant server; knows nothing of graphs or answers."""
