# mypy: ignore-errors
"""Runs on a host as any user of it: writes into the journal what Fail2Ban would believe of others, by every way in.

Words: whose failures these would be, and the unit that it claims to be. Its own name and every field are its choice,
but for those that journald itself sets.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from systemd import journal

VICTIM, UNIT = sys.argv[1:]
TEXTS = (
    f"{VICTIM} no login",
    f"{VICTIM} 404 - /.env",
    f"[sshd] Ban {VICTIM}",
    f"Connection from {VICTIM} port 1 on 10.0.0.1 port 22",
    f"Connection closed by authenticating user er {VICTIM} port 1 [preauth]",
) * 5
FOLDER = Path("/run/systemd/journal")


def datagram(path: Path, content: str) -> None:
    """To journald's own socket, or syslog's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.sendto(content.encode(), str(path))


for name in ("er-watch", "sshd", "sshd-session", "fail2ban"):
    Path("/proc/self/comm").write_text(name)
    for text in TEXTS:
        fields = {"SYSLOG_IDENTIFIER": name, "SYSLOG_PID": "1", "MESSAGE": text, "UNIT": UNIT, "OBJECT_PID": "1"}
        journal.send(text, SYSLOG_IDENTIFIER=name, SYSLOG_PID="1")
        fields |= {"_SYSTEMD_UNIT": UNIT, "_UID": "0", "_COMM": name, "_TRANSPORT": "syslog"}
        datagram(FOLDER / "socket", "".join(f"{key}={value}\n" for key, value in fields.items()))
        datagram(FOLDER / "dev-log", f"<38>Jan  1 00:00:00 {name}[1]: {text}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(str(FOLDER / "stdout"))
        # Identifier, unit, priority, and four switches that are off.
        stream.sendall("".join(f"{line}\n" for line in (name, UNIT, "6", *"0000", *TEXTS)).encode())
