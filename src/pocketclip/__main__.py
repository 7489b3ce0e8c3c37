"""`python -m pocketclip`, as torchrun starts it."""

from pocketclip.cli.main import main

main()
