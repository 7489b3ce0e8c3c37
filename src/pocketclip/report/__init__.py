"""Tables, plots, galleries and pages made of records. Nothing in training calls this."""
