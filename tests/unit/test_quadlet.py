"""The serialiser: what a unit says is what was meant, whatever the user wrote."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import quadlet
from builder.quadlet.podman import BASES
from builder.quadlet.unit_file import VARIABLES, EncodingError, Section, Unit, fits_line, line, word, words
from builder.stack import names
from builder.stack.model import Attachment, Healthcheck, Limits, Mount, Service, Stack, Tmpfs
from tests.unit_file import expand, sections, split

# Any text that could arrive in argv; what could not is refused, see below.
NONCHARACTERS = "".join(map(chr, (*range(0xFDD0, 0xFDF0), *(p << 16 | n for p in range(17) for n in (0xFFFE, 0xFFFF)))))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=f"\x00\x80{NONCHARACTERS}"), max_size=40)


@given(st.lists(TEXTS, max_size=6))
def test_words_come_back(texts: list[str]) -> None:
    encoded = words(*texts)
    assert "\n" not in encoded
    assert [expand(found, VARIABLES) for found in split(encoded)] == texts


@given(TEXTS)
def test_a_line_comes_back_or_is_refused(text: str) -> None:
    if fits_line(text):
        [(_, value)] = sections(f"[X]\nKey={line(text)}\n")["X"]
        assert expand(value) == text
        assert value == value.strip().strip('"')
    else:
        with pytest.raises(EncodingError):
            line(text)


@pytest.mark.parametrize("text", ["a\x00b", "\x80", "\udc80", *NONCHARACTERS])
def test_what_no_unit_can_carry_is_refused(text: str) -> None:
    with pytest.raises(EncodingError):
        word(f"x{text}")


@pytest.mark.parametrize(("key", "value"), [("Key", "a\nb"), ("Key", "a\\"), ("K=y", "a"), ("", "a"), ("Key", "\x1b")])
def test_the_last_gate(key: str, value: str) -> None:
    with pytest.raises(EncodingError):
        str(Unit("x.container", (Section("Container", ((key, value),)),)))


def test_a_section_has_a_name() -> None:
    with pytest.raises(EncodingError):
        str(Unit("x.container", (Section("X]\n[Y", (("Key", "a"),)),)))


def stack(service: Service) -> Stack:
    return Stack("app", 20_100, (service,))


@given(
    texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    command=st.lists(TEXTS, min_size=1, max_size=4),
    base=st.sampled_from(sorted(BASES)),
)
def test_no_value_of_a_service_becomes_a_line_of_its_unit(
    texts: tuple[str, str, str, str], command: list[str], base: str
) -> None:
    value, label, check, entry = texts
    service = Service(
        "web",
        "docker.io/library/caddy:2.11",
        command=tuple(command),
        entrypoint=(entry,),
        environment=(("A", value),),
        labels=(("l", label),),
        healthcheck=Healthcheck((check,), shell=True),
    )
    plain = Service("web", "docker.io/library/caddy:2.11", command=("x",), entrypoint=("y",))
    [(_, text)] = quadlet.units(stack(service), base=base)
    [(_, known)] = quadlet.units(stack(plain), base=base)
    allowed = {key for entries in sections(known).values() for key, _ in entries}
    assert sections(text).keys() == sections(known).keys()
    found = {key for entries in sections(text).values() for key, _ in entries}
    assert found <= allowed | {"Environment", "Label", "HealthCmd", "PodmanArgs"}
    environment = [split(value)[0] for key, value in sections(text)["Container"] if key == "Environment"]
    assert f"A={value}" in [expand(found) for found in environment]


def container(service: Service, base: str = "debian-13") -> list[tuple[str, str]]:
    [(_, text)] = quadlet.units(stack(service), base=base)
    return sections(text)["Container"]


def values(service: Service, key: str, base: str = "debian-13") -> list[str]:
    return [value for name, value in container(service, base) if name == key]


WEB = Service("web", "docker.io/library/caddy:2.11")
HARDENED = [
    "/tmp:rw,noexec,nosuid,nodev,mode=1777",
    "/var/tmp:rw,noexec,nosuid,nodev,mode=1777",
    "/dev/shm:rw,noexec,nosuid,nodev,mode=1777,size=67108864",
]


def replace(**changes: object) -> Service:
    return Service(**{"name": "web", "image": WEB.image, **changes})  # type: ignore[arg-type]


NOT_STANDARD = "AUDIT_WRITE MKNOD NET_RAW SETFCAP SETPCAP SYS_CHROOT"


def test_standard_hardening() -> None:
    assert values(WEB, "Tmpfs") == HARDENED
    assert values(WEB, "NoNewPrivileges") == ["true"]
    assert values(WEB, "DropCapability") == [NOT_STANDARD]
    assert not values(WEB, "AddCapability"), "Podman gives what is added to another user as well"
    assert not values(WEB, "ReadOnly")


@pytest.mark.parametrize(
    ("hardening", "added", "dropped", "drop", "add"),
    [
        ("standard", ("NET_RAW",), ("KILL", "CHOWN"), f"{NOT_STANDARD} KILL CHOWN".replace("NET_RAW ", ""), "NET_RAW"),
        ("standard", ("CHOWN",), ("CHOWN",), NOT_STANDARD, "CHOWN"),
        ("standard", ("CHOWN", "SETUID"), ("ALL",), "all", "NET_BIND_SERVICE CHOWN SETUID"),
        ("strict", (), (), "all", "NET_BIND_SERVICE"),
        ("strict", ("NET_BIND_SERVICE", "CHOWN"), ("KILL",), "all", "NET_BIND_SERVICE CHOWN"),
        ("off", ("KILL",), ("KILL", "CHOWN"), "CHOWN", "KILL"),
        ("off", ("SETUID",), ("ALL",), "all", "NET_BIND_SERVICE SETUID"),
    ],
)
def test_the_users_capabilities_are_laid_over_those_of_the_level(
    hardening: str, added: tuple[str, ...], dropped: tuple[str, ...], drop: str, add: str
) -> None:
    """NET_BIND_SERVICE is what the image's own program cannot be executed without."""
    service = replace(hardening=hardening, cap_add=added, cap_drop=dropped)
    assert values(service, "DropCapability") == [drop]
    assert values(service, "AddCapability") == [add]


LIMITS = ("MemoryMax", "MemorySwapMax", "MemoryLow", "CPUQuota", "TasksMax")


def limits(service: Service) -> dict[str, str]:
    [(_, text)] = quadlet.units(stack(service), base="debian-13")
    return {key: value for key, value in sections(text)["Service"] if key in LIMITS}


def test_a_service_has_the_limits_that_the_user_sets_and_no_others() -> None:
    """systemd itself would give it a limit of processes."""
    assert limits(WEB) == {}
    given = replace(limits=Limits(2**30, cpus=0.5, pids=70, swap=2**29, reserved=2**28))
    values = (2**30, 2**29, 2**28, "50%", 70)
    assert limits(given) == {name: str(value) for name, value in zip(LIMITS, values, strict=True)}
    assert limits(replace(limits=Limits(swap=0)))["MemorySwapMax"] == "0"


def test_strict_hardening() -> None:
    service = replace(hardening="strict")
    assert values(service, "Tmpfs") == [*HARDENED, "/run:rw,noexec,nosuid,nodev,mode=755"]
    assert values(service, "ReadOnly") == ["true"]
    assert values(service, "ReadOnlyTmpfs") == ["false"]
    assert values(service, "DropCapability") == ["all"]


def test_hardening_off() -> None:
    service = replace(hardening="off", cap_drop=("NET_RAW",), shm_size=2**30)
    assert not values(service, "Tmpfs")
    assert not values(service, "NoNewPrivileges")
    assert values(service, "DropCapability") == ["NET_RAW"]
    assert values(service, "ShmSize") == [str(2**30)]


def test_the_users_own_mounts_stay() -> None:
    service = replace(
        hardening="strict",
        mounts=(Mount("volume", "tmp", "/tmp/"), Mount("volume", "run", "/var/run")),
        tmpfs=(Tmpfs("/dev/shm", ("size=1g", "exec")),),
    )
    assert values(service, "Tmpfs") == ["/dev/shm:size=1g,exec", HARDENED[1]]


@pytest.mark.parametrize("base", sorted(BASES))
def test_several_ulimits(base: str) -> None:
    service = replace(ulimits=(("nofile", "1024:2048"), ("nproc", "64")))
    args = [*values(service, "Ulimit", base), *values(service, "PodmanArgs", base)]
    assert [arg.removeprefix("--ulimit=") for arg in args[:2]] == ["nofile=1024:2048", "nproc=64"]


@pytest.mark.parametrize(
    ("check", "command"),
    [
        (Healthcheck(("curl -f x",), shell=True), '["CMD-SHELL", "curl -f x"]'),
        (Healthcheck(("curl", "-f", "x y")), '["curl", "-f", "x y"]'),
        (Healthcheck(("/health",)), "CMD /health"),
        (Healthcheck(("/my health",)), '["CMD-SHELL", "\'/my health\'"]'),
        (Healthcheck((), disable=True), "none"),
    ],
)
def test_health_commands(check: Healthcheck, command: str) -> None:
    assert values(replace(healthcheck=check), "HealthCmd") == [command]


def test_health_times() -> None:
    check = Healthcheck(("x",), interval=90.0, timeout=0.25, start_period=3600.0, retries=2, start_interval=1.5)
    assert values(replace(healthcheck=check), "HealthInterval") == ["90s"]
    assert values(replace(healthcheck=check), "HealthTimeout") == ["250ms"]
    assert values(replace(healthcheck=check), "HealthStartPeriod") == ["3600s"]
    assert values(replace(healthcheck=check), "HealthRetries") == ["2"]
    assert values(replace(healthcheck=check), "HealthStartupInterval") == ["1500ms"]


def test_an_archive_is_never_pulled(tmp_path: pytest.TempPathFactory) -> None:
    archive = tmp_path / "app.tar"  # type: ignore[operator]
    archive.write_bytes(b"x")
    service = replace(image=f"oci-archive:{archive}")
    assert values(service, "Image") == ["localhost/er/app-web:2d711642b726"]
    assert values(service, "Pull") == ["never"]


def test_writable_directories_are_known() -> None:
    service = replace(mounts=(Mount("bind", "data/x", "/data"),), user="1000")
    assert names.data_directories(stack(service), service) == ("/var/lib/easyrunner/data/stacks/app/files/data/x",)
    assert values(service, "Volume") == ["/var/lib/easyrunner/data/stacks/app/files/data/x:/data:U"]


def test_a_service_keeps_its_address_whoever_comes_or_goes() -> None:
    """Each has its own, and none of those that Podman hands out first."""
    letters = [f"service-{number}" for number in range(40)]
    all_of_them = names.host_numbers(letters)
    assert len(set(all_of_them.values())) == 40
    assert all(128 < number < 254 for number in all_of_them.values())
    moved = [name for name in letters[:20] if names.host_numbers(letters[:20])[name] != all_of_them[name]]
    assert len(moved) < 10, "only those whose hash is another's"
    assert names.host_numbers(["db", "web"]) == {name: names.host_numbers([name])[name] for name in ("db", "web")}


def test_an_address_is_an_option_of_each_network() -> None:
    networks = (Attachment("back", ("store",)), Attachment("front"))
    service = replace(networks=networks)
    assert values(service, "Network") == [
        "app-back.network:alias=store,${ER_ADDRESS0}",
        "app-front.network:${ER_ADDRESS1}",
    ]
    [(_, unit)] = quadlet.units(stack(service), base="debian-13")
    lines = unit.splitlines()
    assert "ExecStartPre=/usr/lib/easyrunner/address %t/app-web.address web 231 app_back app_front" in lines
    assert lines.index("EnvironmentFile=-%t/app-web.address") < lines.index(
        "ExecStartPost=/usr/bin/rm -f %t/app-web.address"
    )


def test_a_service_that_reaches_nobody_has_no_network() -> None:
    """Without a way out, and nobody else on its networks: and then nothing that asks for one."""
    web, worker = replace(networks=(Attachment("back"),), dns=("192.0.2.1",)), replace(name="worker", kind="worker")
    alone = Stack("app", 20_100, (web, worker), no_egress=True)
    two = dataclasses.replace(alone, services=(web, dataclasses.replace(worker, networks=(Attachment("back"),))))
    open_ = dataclasses.replace(alone, no_egress=False)
    found = [[text for _, text in quadlet.units(one, base="debian-13")] for one in (alone, two, open_)]
    assert all("\nNetwork=none\n" in text for text in found[0])
    assert not any(word in text for text in found[0] for word in ("address", "\nDNS="))
    assert not any("\nNetwork=none\n" in text for text in (*found[1], *found[2]))


def test_a_directory_without_a_user_may_become_the_images() -> None:
    """By a variable that `data` sets, also where the path needs quotes; never one that is read-only."""
    mounts = (Mount("bind", "x", "/x"), Mount("bind", "a b", "/b"), Mount("bind", "r", "/r", read_only=True))
    service = replace(mounts=mounts)
    home = "/var/lib/easyrunner/data/stacks/app/files"
    assert values(service, "Volume") == [f"{home}/x:/x:rw${{ER_OWN2}}", f"{home}/r:/r:ro"]
    assert f'"--volume={home}/a b:/b:rw${{ER_OWN0}}"' in values(service, "PodmanArgs")
    [(_, unit)] = quadlet.units(stack(service), base="debian-13")
    lines = unit.splitlines()
    assert f'ExecStartPre=/usr/lib/easyrunner/data %t/app-web.owners "{home}/a b" {home}/r {home}/x' in lines
    assert "EnvironmentFile=-%t/app-web.owners" in lines


def test_a_tmpfs_has_no_exec_unasked_and_half_of_the_memory() -> None:
    own = (Tmpfs("/tmp", ("exec",)), Tmpfs("/a"), Tmpfs("/b", ("size=1m", "noexec")))
    service = replace(tmpfs=own, limits=Limits(memory=1000))
    assert values(service, "Tmpfs") == [
        "/tmp:exec,size=500",
        "/a:noexec,size=500",
        "/b:size=1m,noexec",
        "/var/tmp:rw,noexec,nosuid,nodev,mode=1777,size=500",
        "/dev/shm:rw,noexec,nosuid,nodev,mode=1777,size=67108864",
    ]
    assert values(replace(tmpfs=own[1:2], hardening="off"), "Tmpfs") == ["/a"]
