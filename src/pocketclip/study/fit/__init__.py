"""`pocketclip fit`: from pictures and a budget to a recipe, and what came of it."""
