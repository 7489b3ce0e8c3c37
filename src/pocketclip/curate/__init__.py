"""What to train on: looking at a source, and choosing from sources what is worth writing as shards."""
