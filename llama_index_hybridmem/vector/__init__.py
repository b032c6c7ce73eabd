"""Semantic and keyword memory in one engine inside the process; knows nothing of graphs or answers."""
