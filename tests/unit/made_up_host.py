"""What could be found of the host of examples/web.yaml, as `er server report` gathers it: healthy, and with faults."""

from __future__ import annotations

import copy
import time
from typing import Any, Final

Found = dict[str, Any]
# 2026-11-30 12:00 UTC.
AT: Final = 1_796_040_000
V4, V6 = "198.51.100.7", "2001:db8:17::7"
DOMAINS: Final = {"blog": ["blog.example.org"], "hello": ["hello.example.org"]}
_PORTS: Final = (21, 22, 80, 443, 2019, 3306, 5432, 8080, 8443)
_CHECKS: Final = (
    "not held", "no change half-way", "disk for data", "firewall in force", "firewall complete", "ssh by key only",
    "no passwords", "fail2ban", "system services", "stacks run", "secrets set", "first images", "logins to registries",
    "releases in place", "images with the data", "stacks apart", "egress resolves", "room on the disk",
    "no unknown listener", "security updates", "packages", "backups", "restores tried", "restores whole", "clock",
    "certificates",
)  # fmt: skip


def healthy() -> Found:
    """A host on which everything is as promised."""
    return {
        "rehearsal": False,
        "differs": [],
        "doctor": [
            {"check": name, "ok": True, "fixed": False, "wrong": "", "note": "", "remedy": "", "fixable": False}
            for name in _CHECKS
        ],
        "status": _status(),
        "more": {
            "at": AT,
            "addresses": [V4, V6],
            "domains": copy.deepcopy(DOMAINS),
            "sleeping": [],
            "authority": "",
            "edge": "",
            "users": [
                _user("proxy", 20_008, "caddy"),
                _user("blog", 33_000, "web", "db"),
                _user("hello", 23_074, "web"),
            ],
            "packets": {"let in to the web": 1_234_567, "dropped: banned": 812, "dropped: not asked for": 90_210},
            "bans": {"days": [[_day(back), (back * 7) % 5] for back in range(29, -1, -1)], "since": AT - 40 * 86_400},
        },
        "outside": {
            "tried": [*_PORTS],
            "ports": {
                address: {port: "open" if port in {22, 80, 443} else "silent" for port in _PORTS}
                for address in (V4, V6)
            },
            "sites": [_site(names[0], address) for names in DOMAINS.values() for address in (V4, V6)],
            "versions": {
                address: {"TLS 1.0": "refused", "TLS 1.1": "refused", "TLS 1.2": "taken", "TLS 1.3": "taken"}
                for address in (V4, V6)
            },
            "quic": {V4: {"spoken": True, "status": None}, V6: {"spoken": True, "status": 200}},
        },
    }


def _day(back: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(AT - back * 86_400))


def _unit(seconds: int, **values: Any) -> Found:
    unit = {"state": "active", "detail": "running", "result": "success", "restarts": 0, "seconds": seconds}
    return {**unit, "memory": 60 << 20, "limit": 512 << 20, **values}


def _status() -> Found:
    gib = 1 << 30
    return {
        "name": "web1", "booted": AT - 90_000, "uptime": 90_000, "move": None, "load": [0.1, 0.1, 0.1], "cores": 2,
        "memory": {"total": 4 * gib, "available": 2 * gib, "swap_total": 0, "swap_free": 0},
        "disk": {"total": 40 * gib, "used": 9 * gib, "free": 29 * gib, "files_total": 2_600_000,
                 "files_free": 2_400_000},
        "data": None, "full": False, "files_full": False, "firewall": True, "services": {"fail2ban": "active"},
        "proxy": _unit(80_000),
        "proxy_image": {"image": "docker.io/library/caddy:2.11.7", "of_spec": "", "newest": "", "unknown": ""},
        "stacks": [
            _stack("blog", _unit(80_000, service="web"), _unit(80_000, service="db")),
            _stack("hello", _unit(3_700, service="web", restarts=1)),
        ],
        "logins": [],
        "egress": [
            _egress("er-proxy", 0),
            _egress("er-blog", 3, {"address": "203.0.113.25", "protocol": "tcp", "port": 25, "logged": 3, "last": AT}),
            _egress("er-hello", 0),
            _egress("", 0),
        ],
        "ports": [{"protocol": "tcp", "address": "*", "port": port} for port in (22, 8080, 8443)],
        "certificates": [_kept("blog.example.org", 70), _kept("hello.example.org", 61)],
        "updates": {"pending": 4, "security": 0, "checked": AT - 20_000},
        "reboot_needed": False, "host_keys": [], "deploys": {"keys": 0, "served": True},
        "backup": None, "restores": [], "waits_for_data": False,
        "jails": [
            _jail("er-web-flood", 200, 60, 600),
            _jail("er-web-scan", 5, 600, 3600, "203.0.113.77", "2001:db8:5:6::/64"),
            _jail("recidive", 3, 86_400, 604_800),
            _jail("sshd", 5, 600, 3600, "192.0.2.201"),
        ],
    }  # fmt: skip


def _stack(name: str, *services: Found) -> Found:
    return {
        "stack": name, "services": [*services], "lacking": {}, "refusals": [], "unbuilt": [], "releases": [],
        "lost": [], "unkept": None, "trouble": "", "pressure": {"killed": 0, "forks": 0, "filled": None},
    }  # fmt: skip


def _egress(user: str, refused: int, *destinations: Found) -> Found:
    return {"user": user, "since": AT - 90_000, "refused": refused, "destinations": [*destinations], "names": []}


def _kept(domain: str, days: int) -> Found:
    return {"domain": domain, "issuer": "R11", "seconds": days * 86_400, "days": days, "late": False}


def _jail(name: str, maxretry: int, findtime: int, bantime: int, *banned: str) -> Found:
    bans = [{"address": one, "since": "2026-11-30 11:00:00", "until": "2026-11-30 12:00:00"} for one in banned]
    policy = {"maxretry": maxretry, "findtime": findtime, "bantime": bantime, "failing": 0, "failed_total": 9}
    return {"jail": name, **policy, "banned": bans, "banned_total": len(bans) + 3}


def _user(stack: str, uid: int, *containers: str) -> Found:
    first = (uid - 20_000) * 65_536
    return {
        "stack": stack, "user": f"er-{stack}", "uid": uid, "first": first, "said": "", "memory": 180 << 20,
        "limit": 1 << 30,
        "containers": [
            {"name": name, "image": f"{name}:1", "state": "running", "started": AT, "uid": first + number}
            for number, name in enumerate(containers)
        ],
    }  # fmt: skip


def _site(domain: str, address: str) -> Found:
    return {
        "domain": domain,
        "address": address,
        "plain": {"status": 308, "location": f"https://{domain}/"},
        "secure": {
            "version": "TLSv1.3",
            "certificate": {"issuer": "R11", "until": AT + 61 * 86_400, "refusal": ""},
            "status": 200,
            "headers": {
                "strict-transport-security": "max-age=31536000", "x-content-type-options": "nosniff",
                "x-frame-options": "SAMEORIGIN", "referrer-policy": "strict-origin-when-cross-origin",
                "alt-svc": 'h3=":443"; ma=2592000',
            },
        },
    }  # fmt: skip


def faulty() -> Found:
    """The same host with faults of each kind."""
    found = healthy()
    status, outside = found["status"], found["outside"]
    outside["ports"][V4].update({3306: "open", 8080: "open"})
    outside["ports"][V6] = dict.fromkeys(_PORTS, "no way")
    outside["sites"] = [one for one in outside["sites"] if one["address"] == V4]
    outside["versions"] = {
        V4: {**outside["versions"][V4], "TLS 1.0": "taken", "TLS 1.1": "this machine cannot offer it"}
    }
    outside["quic"] = {V4: {"spoken": False, "status": None}}
    blog, hello = outside["sites"]
    blog["plain"] = {"status": 200, "location": ""}
    blog["secure"]["certificate"] = {"issuer": "R11", "until": AT - 3 * 86_400, "refusal": "certificate has expired"}
    blog["secure"]["headers"] = {"server": "nginx"}
    hello["secure"] = {"error": "no answer in time"}
    status["firewall"] = False
    status["jails"] = [one for one in status["jails"] if one["jail"] != "sshd"]
    status["stacks"][0]["services"][1].update(state="failed", result="exit-code", restarts=5)
    status["stacks"][1]["pressure"]["killed"] = 2
    status["certificates"][0].update(seconds=-5, days=-1, late=True)
    status.update(full=True, reboot_needed=True)
    status["updates"]["security"] = 2
    status["backup"] = {
        "to": "s3://backups/web1", "missing": ["backup-password"], "served": True, "run": {"error": "no such bucket"},
        "stacks": [
            {"stack": "blog", "late": True, "good_at": AT - 3 * 86_400, "bytes": 5 << 20,
             "drill": {"at": AT, "error": "the database did not load", "skipped": "", "loaded": []}},
            {"stack": "hello", "late": False, "good_at": AT - 3600, "bytes": 1 << 20,
             "drill": {"at": AT, "error": "", "skipped": "no room", "loaded": []}},
        ],
    }  # fmt: skip
    found["more"]["users"][1]["containers"][0]["uid"] = 0
    found["differs"] = ["/etc/ssh/sshd_config.d/10-easyrunner.conf"]
    found["doctor"][7].update(ok=False, wrong="the jails sshd are missing")
    return found
