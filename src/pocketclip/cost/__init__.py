"""What a model costs: one kind of cost a file."""
