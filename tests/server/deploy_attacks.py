"""What somebody may try who holds the key that deploys one stack: command lines of ssh and its kin.

Each says, in a few words for docs/own-apps.md, what is tried; and which of sshd and the service has to say no.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Attack:
    """`words` follow `ssh OPTIONS`; HOST is the login, `before` are options. `by` says who refuses it."""

    what: str
    words: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    program: str = "ssh"
    by: Literal["service", "sshd", "no effect"] = "service"
    said: str = ""


_SHELL = "a deploy key has no shell"
_OTHER = "this key is for the stack blog alone"
_WORDS = "does not take these words"
_CLOSED = "stdio forwarding failed"
_FORWARD = ("-L", "127.0.0.1:7001:127.0.0.1:2019")
_ENVIRONMENT = ("-o", "SendEnv=LD_PRELOAD PYTHONPATH BASH_ENV EDITOR", "-o", "SetEnv=PYTHONSTARTUP=/tmp/x")

ATTACKS = (
    Attack("a shell", said=_SHELL),
    Attack("a shell on a terminal", before=("-tt",), by="sshd", said="PTY allocation request failed"),
    Attack("a command", ("id",), said=_SHELL),
    Attack("a command behind one that is allowed", ("stack-status blog; id",), said=_OTHER),
    Attack("a command in place of a word", ("stack-status $(id)",), said=_OTHER),
    Attack("a second line", ("stack-status blog\nid",), said="no request"),
    Attack("another alphabet", ("stack-status bl\N{CYRILLIC SMALL LETTER O}g",), said="no request"),
    Attack("an escape of the terminal", ("stack-status blog \x1b[2J",), said="no request"),
    Attack("a line of 100,000 characters", ("stack-status " + "a" * 100_000,), said="no request"),
    Attack("an open quote", ("stack-status 'blog",), said=_SHELL),
    Attack("root's own verbs", ("services restart blog",), said=_SHELL),
    Attack("a change of the spec", ("apply-start",), said=_SHELL),
    Attack("secrets", ("secret-list blog",), said=_SHELL),
    Attack("the status of the host", ("status",), said=_SHELL),
    Attack("another stack's status", ("stack-status shop",), said=_OTHER),
    Attack("another stack's log", ("stack-logs shop 100",), said=_OTHER),
    Attack("another stack's releases", ("release-list shop",), said=_OTHER),
    Attack("the proxy's log", ("stack-logs proxy 100",), said=_OTHER),
    Attack("another stack by a path", ("stack-status blog/../shop",), said=_OTHER),
    Attack("a path as a service", ("push-layers blog ../shop/web",), said=_WORDS),
    Attack("another stack's service", ("push-target blog shop-web",), said="has no service"),
    Attack("a path as a tag", ("push-finish blog web ../../x",), said=_WORDS),
    Attack("an option as a word", ("stack-logs blog --file=/etc/shadow",), said=_WORDS),
    Attack("an option as a service", ("stack-logs blog 5 --merge",), said=_WORDS),
    Attack("an option as the stack", ("stack-status --help",), said=_OTHER),
    Attack("layers of other stacks, by leaving out that only its own count", ("push-missing blog",), said=_WORDS),
    Attack("to wait for ever", ("release-wait blog done 999999",), said=_WORDS),
    Attack("scp to the server", ("/etc/hostname", "HOST:/tmp/x"), program="scp", by="sshd", said="onnection closed"),
    Attack("scp as of old", ("/etc/hostname", "HOST:/tmp/x"), ("-O",), program="scp", said="lost connection"),
    Attack("scp from the server", ("HOST:/etc/shadow", "/dev/null"), ("-O",), program="scp", said=_SHELL),
    Attack("sftp", ("HOST",), program="sftp", by="sshd", said="onnection closed"),
    Attack("a git push to a stack that takes none", ("git-receive-pack '/blog'",), said="takes no git push"),
    Attack("a git push to another stack", ("git-receive-pack '/shop'",), said=_OTHER),
    Attack("to read with Git", ("git-upload-pack '/blog'",), said="reads nothing with Git"),
    Attack("a port of the server's loopback", ("stack-status blog",), _FORWARD, by="no effect"),
    Attack("the connection as a way to a port", (), ("-W", "127.0.0.1:2019"), by="sshd", said=_CLOSED),
    Attack("a port on the server", (), ("-N", "-R", "7002:127.0.0.1:22"), by="sshd", said="port forwarding failed"),
    Attack("a proxy (SOCKS)", ("stack-status blog",), ("-D", "127.0.0.1:7003"), by="no effect"),
    Attack("a network device", (), ("-N", "-w", "0:0"), by="sshd", said="unnel"),
    Attack("the agent", ("stack-status blog",), ("-A",), by="no effect"),
    Attack("a window (X11)", ("stack-status blog",), ("-X",), by="no effect"),
    Attack("variables", ("stack-status blog",), _ENVIRONMENT, by="no effect"),
    Attack("root's login", (), ("-l", "root"), by="sshd", said="Permission denied"),
    Attack("the admin's login", (), ("-l", "er"), by="sshd", said="Permission denied"),
    Attack("the login of a stack", (), ("-l", "er-blog"), by="sshd", said="Permission denied"),
)  # fmt: skip
