"""Unit tests are pure: no program is started, nothing is connected to."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says something of the machine's load, and nothing of the code.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")


@pytest.fixture(autouse=True)
def locked_doors() -> Iterator[None]:
    """Any subprocess and any connection fails the test."""

    def refuse(*args: Any, **_: Any) -> NoReturn:
        pytest.fail(f"a unit test reached outside: {args[1:] or args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse)
        patch.setattr("os.system", refuse)
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
