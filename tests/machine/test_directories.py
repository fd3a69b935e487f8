"""Directories that an app fills: of whom the image runs as, once, and nobody's content is touched. Temporary ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.oci import image_archive
from builder.stack import user
from tests.machine import hosts
from tests.machine.conftest import example_maker
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

DATA = f"{facts.STACK_DATA}/app/files"
# How an image says who it runs as; the ids that its container then has are in its own /etc/passwd and /etc/group.
USERS = {"number": "2000", "name": "app", "group": "app:data"}
IDS = {"number": (2000, 2001), "name": (2000, 2001), "group": (2000, 2002)}
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:2000:2001::/:/bin/sh\n"
_GROUP = b"root:x:0:\napp:x:2001:\ndata:x:2002:\n"


def _make_images() -> None:
    maker = example_maker()
    files = {file.path: file for file in maker.app_files()}
    files |= {
        path: image_archive.ImageFile(path, text) for path, text in (("etc/passwd", _PASSWD), ("etc/group", _GROUP))
    }
    config = maker.APP_CONFIG
    for kind, name in USERS.items():
        own = image_archive.ImageConfig(
            command=config.command,
            environment=(*config.environment, ("XDG_CONFIG_HOME", "/tmp"), ("XDG_DATA_HOME", "/tmp")),
            user=name,
            working_dir="/srv",
        )
        image_archive.write(hosts.IMAGES / f"user-{kind}.tar", files.values(), own)


@pytest.fixture(scope="module")
def host(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    _make_images()
    with hosts.booted("directories", tmp_path_factory.mktemp("directories")) as host:
        yield host


def said(host: Host, service: str, line: str) -> str:
    """The output of a shell line in a service's container, as the user that it runs as; it may fail."""
    done = host.machine.run(["podman", "exec", service, "sh", "-c", line], user="er-app", check=False)
    return done.stdout + done.stderr


def owner(host: Host, path: str) -> tuple[int, int]:
    """Of a directory below the stack's data, in the ids that its containers see."""
    shown = host.machine.run(["stat", "-c", "%u %g", f"{DATA}/{path}"]).stdout.split()
    stack = host.machine.user("er-app").uid
    first = user.subids(stack).first
    found = [0 if int(one) == stack else int(one) - first + 1 for one in shown]
    return found[0], found[1]


def restart(host: Host, service: str) -> None:
    host.machine.run(["systemctl", "--user", "restart", f"app-{service}.service"], user="er-app", timeout=90)


def change(host: Host, line: str) -> None:
    """Something below the stack's data, as its containers' root."""
    host.machine.run(["podman", "unshare", "sh", "-ec", f"cd {DATA}; {line}"], user="er-app")


@pytest.mark.parametrize("service", USERS)
def test_a_new_directory_belongs_to_whom_the_image_runs_as(host: Host, service: str) -> None:
    assert said(host, service, "id -u; id -g").split() == [str(one) for one in IDS[service]]
    assert owner(host, service) == IDS[service]
    assert said(host, service, "echo mine >/srv/data/note && cat /srv/data/note") == "mine\n"


def test_a_path_that_needs_quotes(host: Host) -> None:
    assert owner(host, "odd name's") == IDS["number"]
    assert said(host, "number", "echo odd >/srv/odd/note && cat /srv/odd/note") == "odd\n"


def test_a_directory_inside_another_one(host: Host) -> None:
    assert owner(host, "name/inside") == IDS["name"]
    assert said(host, "name", "echo deep >/srv/data/inside/note && cat /srv/data/inside/note") == "deep\n"


def test_root_stays_root_and_user_counts(host: Host) -> None:
    assert owner(host, "root") == (0, 0)
    assert owner(host, "user") == (777, 778)
    assert said(host, "user", "echo x >/srv/data/note && cat /srv/data/note") == "x\n"


def test_what_is_there_is_left_as_it_is(host: Host) -> None:
    """Over a restart, in the sweep over a boot too; also what the stack's root has put into a directory of its own."""
    for service in USERS:
        said(host, service, "touch /srv/data/kept")
    change(host, "mkdir -p group/of-root && chown 0:0 group/of-root && chown 5:6 group")
    for booting in (False, True) if WHOLE else (False,):
        if booting:
            host.reboot()
        else:
            for service in USERS:
                restart(host, service)
        assert owner(host, "group") == (5, 6)
        assert owner(host, "group/of-root") == (0, 0)
        assert owner(host, "name") == IDS["name"]
        assert said(host, "name", "ls /srv/data/kept") == "/srv/data/kept\n"


def test_a_directory_with_content_of_roots_is_left_and_an_emptied_one_is_given(host: Host) -> None:
    """As after an image that ran as root, and where a start was cut before Podman had given it away."""
    change(host, "rm -rf group && mkdir group && touch group/old && chown -R 0:0 group")
    restart(host, "group")
    assert owner(host, "group") == (0, 0)
    change(host, "rm group/old")
    restart(host, "group")
    assert owner(host, "group") == IDS["group"]
    change(host, "chown 0:0 group; chmod 0 group")
    restart(host, "group")
    assert owner(host, "group") == IDS["group"], "also one that nobody but root may read"
    change(host, "touch group/old; chown 0:0 group; chmod 0 group")
    restart(host, "group")
    assert owner(host, "group") == (0, 0)


def test_a_link_is_not_followed(host: Host) -> None:
    """Nor is what it leads to given away."""
    change(host, "mkdir -p aim && rm -rf group && ln -s aim group")
    # It is tried again and again, so a restart that waits does not come back.
    host.machine.run(["systemctl", "--user", "--no-block", "restart", "app-group.service"], user="er-app")
    log = ["journalctl", "--namespace=*", "-q", "-g", "a link leads elsewhere"]
    host.machine.wait(lambda: host.machine.run(log, check=False).stdout, timeout=30, what="the refusal")
    assert owner(host, "aim") == (0, 0)
    change(host, "rm group")
    restart(host, "group")
    assert owner(host, "group") == IDS["group"]


_RUNS = 'printf "#!/bin/sh\\necho ran" >{0}/try; busybox chmod 755 {0}/try; {0}/try'


def test_tmp_executes_where_the_file_says_so(host: Host) -> None:
    """A tmpfs with exec, or a volume; a tmpfs without a word has no exec, as with Docker."""
    assert said(host, "scratch", _RUNS.format("/tmp")) == "ran\n"
    assert said(host, "scratch", _RUNS.format("/var/tmp")) == "ran\n"
    assert "Permission denied" in said(host, "scratch", _RUNS.format("/scratch"))
    assert "Permission denied" in said(host, "name", _RUNS.format("/tmp"))


@pytest.mark.parametrize("place", ["/tmp", "/scratch"])
def test_a_full_tmpfs_is_told_to_the_app(host: Host, place: str) -> None:
    """At half of the service's memory limit, before that ends it."""
    text = said(host, "scratch", f"busybox dd if=/dev/zero of={place}/x bs=1M count=90; ls -l {place}/x; : >{place}/x")
    assert "No space left on device" in text
    size = int(re.search(r"root +root +(\d+)", text)[1])  # type: ignore[index]
    assert 47 * 2**20 < size <= 48 * 2**20
