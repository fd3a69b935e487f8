"""`doctor`: one row a check; what is wrong, what to do, and what can be fixed here."""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import (
    apply,
    bans,
    changed_files,
    common,
    edge,
    egress,
    held,
    locks,
    packages,
    proxy_update,
    release_record,
    releases,
    secrets,
    services,
    shared_certificates,
    status,
)
from builder.server.remote.backup import backup_checks
from builder.server.remote.changed_files import APPLY
from builder.server.remote.common import RemoteError
from builder.server.remote.images import first_images, kept_images, pushes, registries, role_logins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.server.remote.common import Value


@dataclass(frozen=True)
class Check:
    """`look` returns what is wrong, or nothing; `fix` is set where it is safe to do unasked; `note` is good to know."""

    name: str
    look: Callable[[], str]
    remedy: str
    fix: Callable[[], object] | None = None
    note: Callable[[], str] | None = None


def doctor(mode: str = "") -> list[Value]:
    """Every check with its result; with mode `fix`, what failed is fixed where it can be, and looked at again.

    Of a host that is held, nothing that asks stacks or what they need: that they do not run is the whole of it.
    """
    checks = [check for check in CHECKS if check.name not in _OF_STACKS] if held.is_held() else CHECKS
    return [_examine(check, fix=mode == "fix") for check in checks]


def _examine(check: Check, *, fix: bool) -> Value:
    wrong = look(check)
    fixed = False
    if wrong and fix and check.fix:
        try:
            check.fix()
        except (RemoteError, OSError) as error:
            wrong = f"{wrong}; mending failed: {error}"
        else:
            again = look(check)
            fixed, wrong = not again, again or wrong
    return {
        "check": check.name,
        "ok": not wrong or fixed,
        "fixed": fixed,
        "wrong": wrong,
        "note": check.note() if check.note and not wrong else "",
        "remedy": check.remedy if wrong and not fixed else "",
        "fixable": bool(wrong and not fixed and check.fix),
    }


def look(check: Check) -> str:
    """What is wrong, or why that cannot be said."""
    try:
        return check.look()
    except (RemoteError, OSError, LookupError, ValueError) as error:
        return f"cannot be looked at: {error}"


def _firewall() -> str:
    return "" if common.firewall_loaded() else "its rules are not loaded: only SSH is open"


_JUMPS: Final = (
    "-A INPUT ! -i lo -m conntrack --ctdir ORIGINAL -j ER-BANS",
    "-A INPUT -j ER-INPUT",
    "-A OUTPUT -j ER-OUTPUT",
)
# For visitors, and for stacks that call this host's sites.
_REDIRECTS: Final = ("-A PREROUTING -j ER-REDIRECT", "-A OUTPUT -j ER-OWN\n")


def _rules() -> str:
    """Whether the rules in force are complete: somebody may have deleted one by hand."""
    for tool in ("iptables", "ip6tables"):
        saved = common.run([f"{tool}-save", "-t", "filter"])
        if ":INPUT DROP" not in saved or ":FORWARD DROP" not in saved:
            return f"{tool}: INPUT or FORWARD lets everything through"
        missing = [jump for jump in _JUMPS if jump not in saved]
        if missing:
            return f"{tool}: {missing[0]} is missing"
        saved = common.run([f"{tool}-save", "-t", "nat"])
        if not all(jump in saved for jump in _REDIRECTS):
            return f"{tool}: the redirect of 80 and 443 is missing"
        if edge.settings() and not ("-j ER-OWN-SOURCE" in saved and "-A ER-OWN-SOURCE -j SNAT" in saved):
            return f"{tool}: this host's own calls may pass for the edge's"
    return ""


def _reload_firewall() -> None:
    common.run(["systemctl", "restart", "er-firewall.service"])


def _ssh() -> str:
    desired = {"passwordauthentication": "no", "permitrootlogin": "no", "pubkeyauthentication": "yes"}
    found = dict(line.split(" ", 1) for line in common.run(["sshd", "-T"]).splitlines() if " " in line)
    return "; ".join(
        f"{key} is {found.get(key)}, not {value}" for key, value in desired.items() if found.get(key) != value
    )


def _passwords() -> str:
    rows = (line.split(":") for line in Path("/etc/shadow").read_text().splitlines())
    unlocked = [row[0] for row in rows if row[1] == "" or row[1].startswith("$")]
    return f"these users have a password: {', '.join(unlocked)}" if unlocked else ""


_JAILS: Final = frozenset({"sshd", "recidive"})
# They read the logs and report failed logins to Fail2Ban.
_WATCHES: Final = ("er-watch@ssh.service", "er-watch@web.service")


def _fail2ban() -> str:
    states = common.run(["systemctl", "is-active", "fail2ban.service", *_WATCHES], check=False).split()
    if states[:1] != ["active"]:
        return "it does not run"
    missing = _JAILS - {jail["jail"] for jail in bans.jails()}
    if missing:
        return f"the jails {', '.join(sorted(missing))} are missing"
    return (
        "" if states[1:] == ["active"] * len(_WATCHES) else "it sees nothing: er-watch@ssh or er-watch@web does not run"
    )


def _restart_fail2ban() -> None:
    common.run(["systemctl", "restart", "fail2ban.service", *_WATCHES])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and "sshd" not in common.run(["fail2ban-client", "status"], check=False):
        time.sleep(0.1)


def _units() -> str:
    failed = common.run(["systemctl", "--failed", "--no-legend", "--plain"]).split("\n")
    return ", ".join(line.split()[0] for line in failed if line.strip())


def _restart_units() -> None:
    names = _units().split(", ")
    common.run(["systemctl", "reset-failed"])
    common.run(["systemctl", "restart", *names])


def _services() -> str:
    return ", ".join(f"{one.where} ({one.state})" for one in services.down())


def _secrets() -> str:
    missing = ((stack, name) for stack in common.stacks() for name in secrets.missing(stack))
    return ", ".join(f"{stack} waits for {name}" for stack, name in missing)


def _logins() -> str:
    missing = (one for one in registries.registry_list() if one["state"] in {"missing", "other"})
    return ", ".join(f"{one['stack']} has none to {one['registry']} {_as_whom(one)}" for one in missing)


def _as_whom(login: Value) -> str:
    if not login["by_role"]:
        return f"as {login['username']}"
    return f"by the server's role: {login['said']}" if login["said"] else "by the server's role"


def _first_images() -> str:
    return ", ".join(f"{stack}/{service}" for stack, found in first_images.each().items() for service in found)


def _directories() -> str:
    """Directories of a stack's files that other stacks could read."""
    return ", ".join(path for stack in common.stacks() for path in _open_directories(stack))


def _open_directories(stack: str) -> Iterator[str]:
    account = pwd.getpwnam(common.stack_user(stack))
    for path in (f"{facts.STACKS}/{stack}", f"{facts.QUADLETS}/{account.pw_uid}"):
        found = Path(path).stat()
        if (found.st_uid, found.st_gid, found.st_mode & 0o777) != (0, account.pw_gid, 0o750):
            yield path


def _names() -> str:
    failing = (one for one in egress.names() if one["failing_since"])
    return ", ".join(
        f"{one['name']} of {one['stack']} ({'its last answer stays' if one['addresses'] else 'it is refused'})"
        for one in failing
    )


def _data() -> str:
    return str((common.data_disk() or {"said": ""})["said"])


def _disk() -> str:
    spaces = [status.disk(path) for path in ("/", facts.DATA) if os.path.ismount(path)]
    left = ", ".join(f"{space['free'] >> 20} MiB of {space['total'] >> 20} are left" for space in spaces)
    files = ", ".join(f"{space['files_free']} files of {space['files_total']} can still be made" for space in spaces)
    found = [left] * status.is_full() + [files] * status.is_full("files_")
    found += [
        f"{stack} was stopped, as it holds most of it"
        for stack in common.stacks()
        if status.pressure(stack)["filled"] is not None
    ]
    return ", ".join(found)


def _free_space() -> None:
    common.run(["apt-get", "clean"])
    pushes.remove_leftovers()
    for journal in ([], [f"--namespace={facts.JOURNAL}"]):
        common.run(["journalctl", *journal, "--vacuum-size=100M"], check=False)
    for user in [facts.PROXY_USER, *map(common.user_of, common.stacks())]:
        common.as_user(user, ["podman", "image", "prune", "--force"], check=False, timeout=600)


_PUBLIC: Final = frozenset({facts.SSH, facts.PROXY_HTTP, facts.PROXY_HTTPS})
# A DHCP client listens for its answers; the firewall lets in those alone.
DHCP: Final = frozenset({68, 546})


def _ports() -> str:
    extra = {f"{port['port']}/{port['protocol']}" for port in status.listening() if port["port"] not in _PUBLIC | DHCP}
    return f"these listen on all addresses, behind the firewall: {', '.join(sorted(extra))}" if extra else ""


def _updates() -> str:
    enabled = common.run(["systemctl", "is-enabled", "apt-daily-upgrade.timer"], check=False).strip()
    if enabled != "enabled":
        return f"automatic security updates are {enabled or 'not installed'}"
    count = status.updates()["security"]
    return f"{count} security updates wait for the next night" if count else ""


def _update() -> None:
    common.run(["systemctl", "enable", "--now", "apt-daily.timer", "apt-daily-upgrade.timer"])
    common.run(["unattended-upgrade"])


def _packages() -> str:
    names = packages.missing(packages.lists())
    return f"not installed: {' '.join(names)}" if names else ""


def _install() -> None:
    packages.install(packages.missing(packages.lists()))


def _clock() -> str:
    found = common.run(["timedatectl", "show", "-p", "NTPSynchronized", "-p", "NTP"], check=False)
    return "" if "NTPSynchronized=yes" in found or "NTP=no" in found else "the clock is not synchronised"


def _certificates() -> str:
    return ", ".join(f"{one['domain']} ({one['days']} days)" for one in status.certificates() if one["late"])


def _releases() -> str:
    """Releases whose image is gone: what runs may go on, and does not start again."""
    every = {stack: found for stack in common.stacks() if (found := release_record.deployed(stack))}
    return ", ".join(
        f"{stack}/{service} has lost its image {name}"
        for stack, found in every.items()
        for service, name in _lost(stack, found)
    )


def _lost(stack: str, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    here = release_record.store(stack)
    yield from ((service, name) for service, name in names.items() if release_record.find(here, name) is None)


def _deployed() -> str:
    every = (one for stack in common.stacks() for one in release_record.current(stack))
    return ", ".join(f"{one['stack']}/{one['service']} runs {one['image']} by a release" for one in every)


def _pending() -> str:
    apply_left = APPLY.pending.exists() and APPLY.state()["phase"] in {"failed", "done"}
    found = ["a change was cut off half-way"] if apply_left else []
    found += ["an update of the proxy was cut off half-way"] * proxy_update.is_left()
    found += [f"a release of {stack} was cut off half-way" for stack in common.stacks() if releases.is_left(stack)]
    return ", ".join(found)


def _take_back() -> None:
    apply.apply_recover()
    with locks.host("er server doctor --fix"):
        proxy_update.recover()
    for stack in common.stacks():
        with locks.stack(stack, "er server doctor --fix"):
            releases.recover(stack)


_BRING: Final = "er server doctor HOST --fix, once there is room; what is gone: er server push HOST STACK/SERVICE IMAGE"
# Where stacks are stopped on purpose, these would only say so once more.
_OF_STACKS: Final = frozenset(
    {
        "stacks run",
        "secrets set",
        "first images",
        "logins to registries",
        "releases in place",
        "images with the data",
        "backups",
        "certificates",
    }
)

CHECKS: Final = (
    Check("not held", held.described, "to undo that: er server move OLD NEW --back"),
    # Before stacks are started that would not come up with it.
    Check("no change half-way", _pending, "er server doctor HOST --fix", _take_back),
    Check("disk for data", _data, "attach the right disk, or mend what is said; it is looked at again and again"),
    Check("firewall in force", _firewall, "er server reapply-firewall HOST", _reload_firewall),
    Check("firewall complete", _rules, "er server reapply-firewall HOST", _reload_firewall),
    Check("ssh by key only", _ssh, "er server apply HOST SPEC lays the policy anew; look into /etc/ssh/sshd_config"),
    Check("no passwords", _passwords, "lock each with: sudo passwd --lock USER"),
    Check("fail2ban", _fail2ban, "see journalctl -u fail2ban", _restart_fail2ban),
    Check("system services", _units, "see journalctl -u UNIT on the server", _restart_units),
    Check("stacks run", _services, "er server logs HOST STACK says why", services.start_down),
    Check("secrets set", _secrets, "er server secret set HOST STACK NAME, or generate"),
    Check("first images", _first_images, "er server apply HOST SPEC, or er server push HOST STACK/SERVICE IMAGE"),
    Check("logins to registries", _logins, "er server registry login HOST REGISTRY", role_logins.ask),
    Check("releases in place", _releases, "er server rollback HOST STACK, or send it again", note=_deployed),
    Check("images with the data", kept_images.described, _BRING, kept_images.keep_all),
    Check("stacks apart", _directories, "sudo /usr/lib/easyrunner/users own", changed_files.set_owners),
    Check("egress resolves", _names, "is the name right? see: resolvectl query NAME on the server", egress.resolve),
    Check("room on the disk", _disk, "remove what is large: sudo du -xh / | sort -h | tail", _free_space),
    Check("no unknown listener", _ports, "see who: sudo ss -tulnp; end it or bind it to 127.0.0.1"),
    Check("security updates", _updates, "sudo unattended-upgrade", _update),
    Check("packages", _packages, "sudo apt-get install what is missing", _install),
    Check(
        "backups", backup_checks.backups, "er server status HOST says what is missing; then er server backup HOST now"
    ),
    Check(
        "restores tried",
        backup_checks.drills,
        "er server backup HOST check; older snapshots may be whole",
        note=backup_checks.skipped_drills,
    ),
    Check("restores whole", backup_checks.restores, "er server restore HOST STACK --back", note=backup_checks.kept),
    Check("clock", _clock, "see timedatectl timesync-status"),
    Check(
        "edge",
        edge.differences,
        "a newer er knows them, or proxy: {networks: […]}; then er server apply HOST SPEC",
        note=edge.described,
    ),
    Check("shared certificates", shared_certificates.described, "mend what is said: docs/shared-certificates.md"),
    Check("certificates", _certificates, "er server logs HOST says why; do the domains point at this server?"),
)
