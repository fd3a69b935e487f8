"""Real hosts on this machine: a Debian tree booted by systemd-nspawn, in namespaces of its own.

`trial` is the engine of `er try` and yields `events`. It boots a `machine` on a `base_tree`, with images that
`preload` has put into its users' storage; the machine tests and container builds use `machine` directly.

A machine has a locked `machine_directory` with its disk, mount namespace and control group (`namespaces`), a bridge
(`network`) and `power`; `provider_machine` makes it look like a provider's server.

Nothing of this machine's own configuration is changed, and nothing is left behind.
"""
