"""`er server …`: the commands for a host that runs. HOST is anything that ssh takes."""

from builder.cli.server.app import COMMANDS, NAME, app

__all__ = ["COMMANDS", "NAME", "app"]
