"""Relational memory: an entity graph built from documents without any model, and the walk that ranks over it."""
