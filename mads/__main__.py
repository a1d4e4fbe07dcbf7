"""``python -m mads``."""

from mads.cli import main

main()
