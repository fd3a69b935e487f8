"""`python -m builder` is `er`."""

from builder.cli import main

main()
