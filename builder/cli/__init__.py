"""The command line: one module a command, nothing here but the door."""

from builder.cli.app import app


def main() -> None:
    """Entry point of `er`. Exit codes: 0 fine, 1 the spec, host or build failed, 2 wrong usage, 130 interrupted."""
    app(prog_name="er")
