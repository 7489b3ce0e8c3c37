"""How good a model is: one task a file in `tasks/`, each number with its interval and count."""
