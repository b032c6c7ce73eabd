"""Ways to find damage in what a retriever found, without a language model: a function and a registration each."""
