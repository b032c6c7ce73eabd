"""What it would cost: the corpus measured, what is assumed, the work that follows from both, its price."""
