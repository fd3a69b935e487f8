"""`er server …`: the commands for a host that runs. HOST is anything that ssh takes."""

from builder.cli.server.app import COMMANDS, NAME, SECRETS, app, secrets

__all__ = ["COMMANDS", "NAME", "SECRETS", "app", "secrets"]
