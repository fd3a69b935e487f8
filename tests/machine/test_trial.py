"""The engine of `er try`, on a host that is no more than a TLS server."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from builder.lab.events import Ended, Started
from builder.lab.trial import Answer, Plan, Ready, Site, run
from builder.localhost import cache
from builder.problems import UserError

pytestmark = pytest.mark.machine

_CA = "/etc/site.crt"
_USER_DATA = b"""#cloud-config
runcmd:
  - openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=er
    -addext subjectAltName=DNS:one.test,DNS:two.test -keyout /etc/site.key -out /etc/site.crt
  - systemd-run --unit site openssl s_server -accept 443 -www -cert /etc/site.crt -key /etc/site.key
  - [sh, -c, 'echo "easyrunner: ready one two" > /dev/console']
"""
_SITES = (Site("one", "one.test"), Site("two", "two.test"))


def plan(user_data: bytes = _USER_DATA, *, timeout: float = 600) -> Plan:
    return Plan("web1", user_data, _SITES, _CA, timeout=timeout)


def test_steps_in_order_then_sites_that_answer() -> None:
    with closing(run(plan())) as events:
        seen = []
        for event in events:
            seen.append(event)
            if isinstance(event, Ready):
                assert Path("/run/netns", event.id).exists()
                assert event.ca.read_bytes().startswith(b"-----BEGIN CERTIFICATE")
                assert "one.test:443:" in event.curl(event.answers[0])
                break
    steps = ["base tree", "images", "boot", "cloud-init", "first boot", "first answers"]
    assert [event.step for event in seen if isinstance(event, Started)] == steps
    assert [event.step for event in seen if isinstance(event, Ended)] == steps
    assert {(event.site, event.status) for event in seen if isinstance(event, Answer)} == {(s, 200) for s in _SITES}
    ready = seen[-1]
    assert isinstance(ready, Ready)
    assert not Path("/run/netns", ready.id).exists()
    assert not (cache.root() / "machines" / ready.id).exists()


def test_a_host_that_never_gets_ready_is_explained() -> None:
    broken = b"#cloud-config\nruncmd: [systemd-run --unit broken --service-type exec false, sleep 1]\n"
    with (
        pytest.raises(UserError, match="in vain for all stacks to answer") as caught,
        closing(run(plan(broken, timeout=40))) as events,
    ):
        list(events)
    assert caught.value.hint is not None
    assert "broken.service" in caught.value.hint
