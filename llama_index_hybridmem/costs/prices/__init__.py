"""What a call costs, by whose word and of which day."""
