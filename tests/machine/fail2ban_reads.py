# mypy: ignore-errors
"""Runs on a host, with its Fail2Ban and its configuration: whom each jail finds in lines, as JSON on stdout.

Reads a list of lines from stdin, and prints for each jail that is on, beside what it listens to, the index and the
client of each line that it counts. All matching is Fail2Ban's own.
"""

from __future__ import annotations

import json
import sys
import time

from fail2ban.client.configurator import Configurator
from fail2ban.server.filter import Filter


def main() -> None:
    """Every jail over every line."""
    read = Configurator()
    read.setBaseDir(sys.argv[1])
    read.readAll()
    read.getOptions()
    read.convertToProtocol()
    commands = read.getConfigStream()
    jails = [command[1] for command in commands if command[0] == "start"]
    lines = json.load(sys.stdin)
    sys.stdout.write(json.dumps({jail: _found(jail, commands, lines) for jail in jails}))


def _found(jail: str, commands: list[list[object]], lines: list[str]) -> dict[str, object]:
    own = [command for command in commands if command[0].endswith("set") and command[1] == jail]
    reader = Filter(None)
    reader.checkFindTime = False
    reader.setUseDns("no")
    for _, _, name, *values in own:
        for value in values[0] if values and isinstance(values[0], list) else values:
            if name == "prefregex":
                reader.prefRegex = value
            elif name == "addfailregex":
                reader.addFailRegex(value)
            elif name == "addignoreregex":
                reader.addIgnoreRegex(value)
    now = time.time()
    found = [(at, str(hit[1])) for at, line in enumerate(lines) for hit in reader.processLine(("", "", line), now)]
    matches = [command[3] for command in own if command[2] == "addjournalmatch"]
    return {"found": found, "journal": matches}


main()
