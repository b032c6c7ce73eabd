"""Questions made from the sample's table of facts, in phrasings written by hand; knows no index and no model.

`python -m llama_index_hybridmem.sample.asking` writes them; the sheets beside this file hold the words.
"""
