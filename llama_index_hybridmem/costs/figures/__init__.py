"""Many traces summed up."""
