"""Ways to damage what a retriever found: a function and a registration each."""
