"""What every query cost and where its time went; the parts, by name."""
