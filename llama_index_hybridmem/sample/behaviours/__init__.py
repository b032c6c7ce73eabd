"""Rows that teach a behaviour rather than facts: ticket JSON, three voices, sealed records; pure but for writing.

All texts are our own; shop, products, people and places are invented. Write them with
``python -m llama_index_hybridmem.sample.behaviours --out FOLDER``.
"""
