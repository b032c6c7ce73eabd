"""What goes wrong with retrieved text: damage done on purpose, damage found, and how often it happens."""
