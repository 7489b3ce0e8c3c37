"""Work in blocks, here or on many machines, and what it tells while it goes on."""
