"""The same adapters on a model server."""
