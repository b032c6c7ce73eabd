"""Queries followed while they run: spans, calls, streams."""
