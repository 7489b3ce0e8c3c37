"""Reads records: tables, plots, galleries and reports. Nothing in training calls this."""
