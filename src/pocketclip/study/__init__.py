"""Compares recipes: every row with every seed, an ordinary run each, then the table."""
