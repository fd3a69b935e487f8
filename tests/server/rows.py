"""Rows that are written into a database of a booted host while something happens to it."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host


@contextmanager
def written_all_the_time(host: Host, stack: str, rows: list[int]) -> Iterator[None]:
    """Rows, one after the other, as long as the block lasts; `rows` are those that the database has said it has.

    By one client, as a service keeps one: to start a client in a container for each row takes half a processor.
    """
    end = threading.Event()
    argv = ["podman", "exec", "-i", "db", "psql", "-U", stack, "-qtA"]

    def write() -> None:
        while not end.is_set():
            # The host may be off, and the database not there.
            with (
                suppress(UserError, OSError),
                subprocess.Popen(
                    host.machine.argv(argv, user=f"er-{stack}"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                ) as client,
            ):
                _insert(client, rows, end)
            end.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _insert(client: subprocess.Popen[str], rows: list[int], end: threading.Event) -> None:
    """Until the end, or the client's."""
    assert client.stdin is not None
    assert client.stdout is not None
    while not end.is_set():
        number = max(rows, default=0) + 1
        client.stdin.write(f"INSERT INTO rows VALUES ({number}) RETURNING n;\n")
        client.stdin.flush()
        if client.stdout.readline().strip() != str(number):
            return
        rows.append(number)
        time.sleep(0.05)
