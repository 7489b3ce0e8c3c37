"""Weighs image towers one by one: what each costs to run and to train, and what it scores where its weights are."""
