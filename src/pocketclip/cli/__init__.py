"""The command line: `main` and one file a command; what a command does lies in the folders below."""

from pocketclip.hardware import process_began

STARTED = process_began()
"""When the command began, by `time.perf_counter`."""
