"""`python -m mitate` is the command `mitate`."""

from mitate.cli import main

main()
