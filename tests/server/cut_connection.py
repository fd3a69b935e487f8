"""A way to a host that breaks: `python cut_connection.py HOST PORT BYTES`, as ssh's ProxyCommand.

It carries a connection until so many bytes have gone there, and ends both sides then.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main(host: str, port: str, limit: str) -> None:
    """Standard input and output are the client."""
    with socket.create_connection((host, int(port))) as there:
        threading.Thread(target=_back, args=(there,), daemon=True).start()
        left = int(limit)
        while left > 0 and (chunk := os.read(0, min(left, 65_536))):
            there.sendall(chunk)
            left -= len(chunk)
        if left > 0:
            there.shutdown(socket.SHUT_WR)
            there.recv(1)


def _back(there: socket.socket) -> None:
    while chunk := there.recv(65_536):
        os.write(1, chunk)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
