"""The units of a service's next container, which runs beside the one that serves: text made of the service's own units.

They lie in /run, which user managers search, and are gone with the next boot. A name of theirs has a colon, as no
service's name has. Nothing else of the stack finds the next container: it has no alias, and not the fixed address.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import session

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY: Final = Path("/run/systemd/user")


class Next(NamedTuple):
    """A public service, its kind (web or h2c), and what its next container and that one's ingress are called."""

    stack: str
    service: str
    kind: str

    @property
    def own(self) -> str:
        """The service's own unit."""
        return f"{self.stack}-{self.service}.service"

    @property
    def own_ingress(self) -> str:
        """Without `.socket` or `.service`."""
        return f"er-ingress-{self.service}"

    @property
    def unit(self) -> str:
        """The unit of the next container."""
        return f"{facts.NEXT}{self.stack}:{self.service}.service"

    @property
    def ingress(self) -> str:
        """Without `.socket` or `.service`."""
        return f"er-ingress-next:{self.stack}:{self.service}"

    @property
    def container(self) -> str:
        """The name of the next container."""
        return f"er-next-{self.service}"

    @property
    def socket(self) -> Path:
        """Where the proxy finds whoever serves."""
        return Path(facts.PROXY_SOCKETS, self.stack, f"{self.service}.sock")

    @property
    def next_socket(self) -> Path:
        """The next container's socket, until it takes the place of the service's own."""
        return self.socket.with_name(f"next:{self.socket.name}")

    @property
    def kept_socket(self) -> Path:
        """The service's own socket, while the next container's has its place; the script `ingress` knows this name."""
        return self.socket.with_name(f"kept:{self.socket.name}")

    @property
    def up(self) -> Path:
        """The file that tells the proxy of an ingress that has joined an app."""
        return self.socket.with_name(f"{self.service}.up")

    @property
    def where(self) -> str:
        """As it is said."""
        return f"{self.stack}/{self.service}"


def units(one: Next, own: str, ingress: str) -> dict[str, str]:
    """The units by file name, from the text of the service's own one, as Podman makes it, and that of its ingress."""
    pidfiles = (f"%t/{one.stack}-{one.service}.pid", f"%t/{one.unit.removesuffix('.service')}.pid")
    return {
        one.unit: "".join(_container_lines(one, own, pidfiles)),
        f"{one.ingress}.service": ingress.replace(one.own, one.unit).replace(*pidfiles),
        f"{one.ingress}.socket": f"[Socket]\nListenStream={one.next_socket}\n",
    }


def _container_lines(one: Next, own: str, pidfiles: tuple[str, str]) -> Iterator[str]:
    section = ""
    for line in _joined(own).splitlines():
        section = line if line.startswith("[") else section
        if not line or section not in ("[Unit]", "[Service]") or line.startswith("SourcePath="):
            continue
        if line.startswith("ExecStart="):
            yield f"{_start(one, line, pidfiles)}\n"
        elif line.startswith("SyslogIdentifier="):
            yield f"SyslogIdentifier={one.own.removesuffix('.service')}\n"
        elif line.startswith("ExecStopPost=") and "er-ingress-" in line:
            yield f"{line.replace(one.own_ingress, one.ingress)}\n"
        elif line.startswith("ExecStartPost=") and " wait " in line:
            yield f"{line.removesuffix(one.service)}{one.container}\n"
        elif not _of_addresses(line):
            yield f"{line}\n"


def _joined(text: str) -> str:
    return text.replace("\\\n", " ")


def _of_addresses(line: str) -> bool:
    """Whether a line keeps the fixed addresses of the service, which its own container has."""
    return line.endswith(".address") or line.startswith(f"ExecStartPre={facts.LIB}/address ")


# A word of a command line with its quotes: systemd.service(5), "Command lines".
_WORD: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+""", re.DOTALL)
_ADDRESS: Final = re.compile(r"\$\{ER_ADDRESS\d+\}")


def _start(one: Next, line: str, pidfiles: tuple[str, str]) -> str:
    found = []
    option = ""
    for word in _words(line):
        if option == "--name":
            found.append(one.container)
        elif option == "--network":
            found.append(session.without_addresses(_ADDRESS.sub("", word)))
        else:
            found.append(word if option else _option(one, word, pidfiles))
        option = word if word in _WITH_VALUE and not option else ""
    return f"ExecStart={' '.join(found)}"


# Options of which the word after them is a value, and no option.
_WITH_VALUE: Final = frozenset({"--name", "--network", "--env", "-e", "--label", "--annotation"})


def _option(one: Next, word: str, pidfiles: tuple[str, str]) -> str:
    option, equals, value = word.partition("=")
    if equals and option == "--name":
        return f"--name={one.container}"
    if equals and option == "--network":
        return f"--network={session.without_addresses(_ADDRESS.sub('', value))}"
    return word.replace(*pidfiles) if option == "--pidfile" else word


def _words(line: str) -> list[str]:
    return _WORD.findall(line.removeprefix("ExecStart="))


# A service whose [Service] section has this runs never twice: `deploy.update_config.order` of its Compose file.
STOP_FIRST: Final = "X-EasyRunner-Order=stop-first"
# And this is of one that listens on a socket instead of a port: its requests queue, or wait until it is there again.
_LISTENS: Final = "X-EasyRunner-Listen="


def reason_against(own: str) -> str:
    """Why a service of this unit, as Podman makes it, does not run twice at the same time; nothing where it may."""
    lines = _joined(own).splitlines()
    if STOP_FIRST in lines:
        return "its Compose file says stop-first"
    if listens(own):
        return "it has a socket of its own"
    if "Type=notify" not in lines:
        return "it is no service that runs on"
    options = list(_options(own))
    if any(option in _NETWORK and value.startswith("container:") for option, value in options):
        return "it shares another service's network"
    if any(option in _MOUNT and not _is_read_only(value) for option, value in options):
        return "it has a volume"
    return ""


def listens(own: str) -> bool:
    """Whether a service of this unit has a socket of its own."""
    return any(line.startswith(_LISTENS) for line in own.splitlines())


_NETWORK: Final = frozenset({"--network", "--net"})
_MOUNT: Final = frozenset({"--volume", "-v", "--mount"})


def _options(own: str) -> Iterator[tuple[str, str]]:
    """The options of `podman run` with their values, which may be the words after them."""
    start = next((line for line in _joined(own).splitlines() if line.startswith("ExecStart=")), "")
    words = iter(word.strip("\"'") for word in _words(start))
    for word in words:
        option, equals, value = word.partition("=")
        if not equals and option in _NETWORK | _MOUNT | _WITH_VALUE:
            value = next(words, "")
        yield option, value


def _is_read_only(mount: str) -> bool:
    """Of a mount that Podman is told of: its options follow upon the places."""
    return not {"ro", "readonly"}.isdisjoint(re.split("[:,]", mount)[1:])


def networks(own: str) -> set[str]:
    """The private networks that a service of this unit joins."""
    names = {value.partition(":")[0] for option, value in _options(own) if option in _NETWORK}
    return names - {"pasta", "none", "container"}
