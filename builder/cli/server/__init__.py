"""`er server …`: the commands for a running host. HOST is anything that ssh takes."""
