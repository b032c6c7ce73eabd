"""What stands behind `costs.estimate`: the corpus measured, what is assumed, the work that follows from both."""
