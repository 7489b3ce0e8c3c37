"""Drawn pedestrians: who they are, what is written of them, and how they look from where a camera stands."""
