"""Real hosts on this machine: a Debian tree booted by systemd-nspawn in namespaces of its own.

The engine of `er try` and of the machine tests. Nothing of this machine's own configuration is changed,
and nothing is left behind.
"""
