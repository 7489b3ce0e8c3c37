"""The command line: `main` and one file a command; what a command does lies in the folders below."""

import time

STARTED = time.perf_counter()
"""When the command began."""
