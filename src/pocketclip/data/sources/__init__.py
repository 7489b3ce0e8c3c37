"""Where pairs come from, one kind a file."""
