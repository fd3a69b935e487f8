"""A running host over ssh.

`ssh` is the call: it sends `remote` along with each one and explains what fails. `connection` lets the calls of a
command share one login. `apply` is the client's part of `er server apply`; every other command of `er server` is one
call of a verb, but for `exec`, `shell` and `run`, which become the ssh of a second connection that `remote/attach`
answers. `remote` runs on the host, as root, and imports nothing of the client: `remote/main` has the verbs,
`remote/common` what they share, `status` and `doctor` stand on the others, and so does `apply`, which changes the
host's files. What is more than a file there has a folder: `backup`, `move`, `images`, `deploy`. `move` is the client's
part of `er server move`, and `remote/move` has what its two hosts do. Only the command line imports this package.
"""

from builder.server.ssh import Remote

__all__ = ["Remote"]
