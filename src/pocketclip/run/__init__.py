"""Carrying out a recipe from data to bundle."""
