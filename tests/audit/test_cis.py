"""The CIS Debian Linux 13 Benchmark, by content that no package has yet: `make cis CONTENT=…/ssg-debian13-ds.xml`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.audit.test_audits import CPE

if TYPE_CHECKING:
    from builder.lab.machine import Machine
    from tests.audit.conftest import Side

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif("ER_CIS_CONTENT" not in os.environ, reason="`make cis CONTENT=…` runs it, with content built"),
]
PROFILE = "xccdf_org.ssgproject.content_profile_cis_level1_server"
LEAST = 85.0
# In a container half of the rules would not apply: no kernel, no machine.
_ON_A_MACHINE = re.compile(r'<\S*platform idref="#(?:machine|not_container|\w*system_with_kernel)"\s*/>')


def score(machine: Machine) -> tuple[float, int, list[str]]:
    """Score of 100, how many rules passed, and those that failed."""
    machine.path("/root/cis.xml").write_text(_ON_A_MACHINE.sub("", Path(os.environ["ER_CIS_CONTENT"]).read_text()))
    machine.run(CPE)
    evaluate = f"oscap xccdf eval --profile {PROFILE} --results cis-result.xml cis.xml"
    said = machine.run(f"cd /root; {evaluate}", check=False, timeout=400)
    assert said.returncode in {0, 2}, said.stderr
    results = re.findall(r"^Rule\s+\S+content_rule_(\S+).*?^Result\s+(\w+)$", said.stdout, re.MULTILINE | re.DOTALL)
    found = re.search(r"<score[^>]*>([\d.]+)", machine.path("/root/cis-result.xml").read_text())
    assert found
    passed = sum(result == "pass" for _, result in results)
    return round(float(found[1]), 1), passed, sorted(rule for rule, result in results if result == "fail")


def test_level_1_of_a_server(side: Side) -> None:
    for host in side.ours.values():
        host.machine.run("systemctl start er-integrity.service", timeout=180)
    said = {name: score(machine) for name, machine in side.machines.items()}
    for name, (points, passed, failed) in said.items():
        print(f"{name}: {points} of 100, {passed} passed, {len(failed)} failed: {' '.join(failed)}")
    for name in side.ours:
        assert said[name][0] >= LEAST
        assert said[name][0] > said["plain"][0]
