"""One training loop for every method; methods differ in their objective, their data and their model."""
