"""Backups and their way back: `backup` makes one and `drill` tries one in a cell, both by `restic`; `restore` brings a
stack back, `first_restore` a whole new machine. `dumps` and `dump_load` know how databases are written and read.
"""
