"""The host as values: golden trees, and the invariants that both deliveries hang on."""

from __future__ import annotations

import base64
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder import facts, host, userdata
from builder import spec as specs
from builder.host import Part, rootfs
from builder.host.packages import PACKAGES
from builder.server.remote import next_units

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "host"
SPECS = sorted(
    str(path.relative_to(ROOT))
    for path in (*(ROOT / "examples").glob("*.yaml"), *(ROOT / "tests/machine/specs").glob("*/easyrunner.yaml"))
)
# Golden trees are kept of the examples whose images come from a registry: archives are made anew, and so their names.
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if "oci-archive" not in path.read_text())
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"

MINIMAL = """
server: {{name: {name}, base: {base}}}
admin: {{name: {admin}, ssh_keys: ["{key}"]}}
{more}
"""


def spec_of(*, name: str = "web1", base: str = "debian-13", admin: str = "er", more: str = "") -> specs.Spec:
    text = MINIMAL.format(name=name, base=base, admin=admin, key=KEY, more=more)
    return specs.loads(text, Path("easyrunner.yaml"))[0]


STACK = """
stacks:
  - {name: hello, image: "docker.io/library/caddy:2.11", domain: hello.example.org, port: 8080}
"""


def landed(content: bytes) -> dict[str, tuple[str, str, bytes]]:
    """What cloud-init writes from user-data: path -> (mode, owner, bytes), with its defaults."""
    document = yaml.safe_load(content)
    return {entry["path"]: _landed(entry) for entry in document["write_files"]}


def _landed(entry: dict[str, Any]) -> tuple[str, str, bytes]:
    assert "encoding" not in entry, "the examples are text"
    return entry.get("permissions", "0644"), entry.get("owner", "root:root"), entry["content"].encode()


def as_landed(files: tuple[host.File, ...]) -> dict[str, tuple[str, str, bytes]]:
    """As cloud-init is to lay them: root's, until `users` gives what is a stack's to its group."""
    return {file.path: (file.initial_mode, f"{file.owner}:root", file.content) for file in files}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specs of this checkout, with a stand-in for each file that is made: archives and keys."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("examples", "tests/machine/specs"):
        shutil.copytree(ROOT / folder, copy / folder)
    images = ("caddy", "app", "toolbox", "rpc", "user-number", "user-name", "user-group")
    for made in (*(f"images/{name}.tar" for name in images), "keys/demo.pub"):
        file = copy / ".cache" / made
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(KEY)
    for spec in (copy / "tests/machine/specs").iterdir():
        (spec / "id.pub").write_text(KEY)
        for name in ("blog", "shop", "push"):
            (spec / f"{name}.pub").write_text(f"ssh-ed25519 {KEY.split()[1][:-4]}{name}")
    return copy


@pytest.mark.parametrize("name", SPECS)
def test_stock_is_baked_and_first_boot_with_nothing_in_both(name: str, checkout: Path) -> None:
    spec, _ = specs.load(checkout / name)
    built = host.build(spec)
    baked, first = as_landed(built.only(Part.BAKED)), as_landed(built.only(Part.FIRST_BOOT))
    assert not baked.keys() & first.keys()
    assert landed(userdata.cloud_config(spec, built, "stock")) == baked | first
    assert landed(userdata.cloud_config(spec, built, "baked")) == first


def test_only_a_host_with_names_in_its_egress_carries_what_resolves_them() -> None:
    def files(egress: str) -> dict[str, bytes]:
        built = host.build(spec_of(more=STACK.replace("port: 8080", f"port: 8080, egress: [{egress}]")))
        return {file.path: file.content for file in built.only(Part.FIRST_BOOT)}

    by_address, by_name = files("{to: 203.0.113.7}"), files("{to: 203.0.113.7}, {to: db.example.org, ports: [5432]}")
    assert {path: by_name.get(path) for path in by_address} == by_address
    assert by_name.keys() - by_address.keys() == {
        facts.NAMES,
        f"{facts.FIREWALL}/30-hello.names",
        "/etc/systemd/system/er-names.service",
        "/etc/systemd/system/er-first-boot.service.d/20-names.conf",
    }


@pytest.mark.parametrize(
    ("services", "program"),
    [
        ('{web: {image: "x:1"}}', set()),
        ("{web: {image: 'x:1'}}", set()),
        ("{web: {image: 'x:1'}, db: {image: 'y:1'}}", {"address"}),
        ("{web: {image: 'x:1', volumes: ['./data:/data']}}", {"data"}),
    ],
)
def test_only_a_host_whose_units_call_a_program_carries_it(services: str, program: set[str], tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(f"services: {services}")
    stacks = "stacks: [{name: app, compose: compose.yaml}]"
    text = MINIMAL.format(name="web1", base="debian-13", admin="er", key=KEY, more=stacks)
    files = host.build(specs.loads(text, tmp_path / "easyrunner.yaml")[0]).files
    units = b"".join(file.content for file in files if file.path.endswith(".container"))
    called = {word.decode() for word in re.findall(rb"ExecStartPre=/usr/lib/easyrunner/(\w+)", units)}
    assert called == program
    there = {file.path.rpartition("/")[2] for file in files if file.path.startswith(f"{facts.LIB}/")}
    assert there & {"address", "data"} == program


def test_containers_know_every_domain_of_the_host() -> None:
    spec = spec_of(more=STACK)
    files = {file.path: file.content.decode() for file in host.build(spec).files}
    domains = {domain for one in spec.stacks for service in one.services for domain in service.domains}
    lines = [line.split() for line in files["/etc/easyrunner/hosts"].splitlines()]
    assert {(line[0], name) for line in lines for name in line[1:]} == {
        (address, domain) for address in facts.OWN_SITES for domain in domains
    }
    settings = files["/etc/containers/containers.conf.d/10-easyrunner.conf"]
    assert 'base_hosts_file="/etc/easyrunner/hosts"' in settings
    bare = {file.path: file.content for file in host.build(spec_of()).files}
    assert bare["/etc/easyrunner/hosts"] == b"127.0.0.1 localhost\n"
    many = "".join(
        f"  - {{name: s{n}, uid: {21_000 + n}, image: 'caddy:2', domain: {'a' * 50}.n{n}.example.org}}\n"
        for n in range(30)
    )
    hosts = {file.path: file.content for file in host.build(spec_of(more=f"stacks:\n{many}")).files}[
        "/etc/easyrunner/hosts"
    ]
    assert hosts.count(b".example.org") == 60
    assert max(map(len, hosts.splitlines())) < 512  # musl reads no more of a line


def test_a_users_own_drop_in_neither_hides_one_of_all_users_nor_loses_to_it() -> None:
    """systemd.unit(5): of one name only the instance's own is read; of several the last name in order wins.

    The proxy's ceiling is its own, not that of a stack.
    """
    folder = "/etc/systemd/system/user@"
    found = [
        file.path.removeprefix(folder).split(".service.d/")
        for file in host.build(spec_of(more=STACK)).files
        if file.path.startswith(folder)
    ]
    of_all = {name for instance, name in found if not instance}
    of_one = {name for instance, name in found if instance}
    assert len(of_all) >= 2
    assert max(of_all) < min(of_one)


def test_what_podman_believes_to_run_is_forgotten_alike() -> None:
    """By a manager that comes back, and by er-room, which takes a stack's containers away without one."""
    rootfs = ROOT / "images/rootfs"
    manager = (rootfs / "usr/lib/easyrunner/manager").read_text()
    room = (rootfs / "usr/lib/easyrunner/room").read_text()
    words = [re.findall(r"rm -rf --one-file-system [a-z ]+", text) for text in (manager, room)]
    assert len(words[0]) == 1
    assert words[0] == words[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_golden_tree(path: Path) -> None:
    """Every file of the host of each example, in both directions: an extra file fails too."""
    golden = GOLDEN / path.stem
    rendered = {f"{file.path.lstrip('/')}": file for file in host.build(specs.load(path)[0]).files}
    if os.environ.get("UPDATE"):
        _update(golden, rendered)
    on_disk = {str(file.relative_to(golden)): file for file in golden.rglob("*") if file.is_file()}
    assert sorted(on_disk) == sorted(rendered)
    for name, file in rendered.items():
        assert on_disk[name].read_bytes() == file.content, name


def _update(golden: Path, rendered: dict[str, host.File]) -> None:
    for file in golden.rglob("*"):
        if file.is_file():
            file.unlink()
    rootfs.write_files(golden, tuple(rendered.values()))


@pytest.mark.parametrize("base", sorted(PACKAGES))
def test_the_baked_part_knows_nothing_of_whose_host_it_is(base: str) -> None:
    one = host.build(spec_of(base=base, more=STACK))
    two = host.build(spec_of(base=base, name="other", admin="anna", more="ssh: {allow_from: [192.0.2.0/24]}"))
    assert one.only(Part.BAKED) == two.only(Part.BAKED)


def test_every_file_of_a_host_is_roots_and_no_other_may_write_it() -> None:
    for file in host.build(spec_of(more=STACK)).files:
        assert file.owner == "root"
        assert not int(file.mode, 8) & 0o022, file.path


def test_what_a_stack_is_told_only_its_own_group_reads(checkout: Path) -> None:
    """Its units have its environment in them. What its containers mount they read as any user: a directory shuts it."""
    built = host.build(specs.load(checkout / "tests/machine/specs/edge/easyrunner.yaml")[0])
    own = [file for file in built.files if file.group != "root"]
    for file in own:
        assert file.group == f"er-{file.stack}"
        shut = file.path.startswith(f"{facts.STACKS}/{file.stack}/")
        assert file.initial_mode == (file.mode if shut else "0600"), file.path
        assert shut or file.mode == "0640", file.path
    units = [file for file in built.files if file.path.startswith(facts.QUADLETS) and file.stack]
    assert units
    assert set(units) <= set(own)
    assert {file.path for file in built.files if b"Environment=" in file.content} <= {
        *(file.path for file in own),
        f"{facts.QUADLETS}/{facts.PROXY_UID}/er-proxy.container",  # none of it is a secret
        *(file.path for file in built.files if "/user@" in file.path),
    }


@pytest.mark.parametrize("base", sorted(PACKAGES))
def test_sshd_is_given_only_lines_that_the_base_knows(base: str) -> None:
    """OpenSSH 9.6 of Ubuntu 24.04 has neither; a line it does not know would keep everybody out."""
    file = next(f for f in host.build(spec_of(base=base)).files if f.path == "/etc/ssh/sshd_config")
    newer = {b"PerSourcePenalties", b"mlkem768x25519-sha256"}
    assert {word for word in newer if word in file.content} == (newer if base == "debian-13" else set())


@pytest.mark.parametrize("base", sorted(PACKAGES))
def test_sshd_limits_a_source_on_every_base(base: str) -> None:
    """Both options are of OpenSSH 8.5. Fail2Ban does not count connections that end before they name a user."""
    file = next(f for f in host.build(spec_of(base=base)).files if f.path == "/etc/ssh/sshd_config")
    assert {b"PerSourceMaxStartups 5", b"PerSourceNetBlockSize 32:64"} <= set(file.content.splitlines())
    assert b"LogLevel VERBOSE" in file.content, "without it there is no line with the address first"


@pytest.mark.parametrize("base", sorted(PACKAGES))
def test_the_proxy_and_apps_ask_the_hosts_resolver_for_names(base: str) -> None:
    """Podman 5 sees to it by itself. Before, a container asks the upstream's addresses, which may be metadata's."""
    files = {file.path: file.content for file in host.build(spec_of(base=base, more=STACK)).files}
    units = [content for path, content in files.items() if path.endswith(".container")]
    wanted = ["Network=pasta"]
    if base == "ubuntu-24.04":
        wanted = ["Network=pasta:--dns-forward,169.254.1.1", "DNS=169.254.1.1"]
    assert len(units) == 2
    for unit in units:
        assert [line for line in unit.decode().splitlines() if line.startswith(("Network=", "DNS="))] == wanted


def test_private_networks_have_what_makes_them_on_each_base() -> None:
    """Podman 4.9 knows slirp4netns alone for them, and Ubuntu installs no Recommends here."""
    assert {base for base, packages in PACKAGES.items() if "slirp4netns" in packages} == {"ubuntu-24.04"}
    assert all("passt" in packages for packages in PACKAGES.values())


def test_the_tree_of_the_proxy_is_named_by_its_uid() -> None:
    paths = [file.path for file in host.build(spec_of()).files]
    assert f"{facts.QUADLETS}/{facts.PROXY_UID}/er-proxy.container" in paths
    assert f"{facts.ETC}/units/{facts.PROXY_UID}/er-proxy.socket" in paths
    assert f"/etc/systemd/system/user@{facts.PROXY_UID}.service.d/20-easyrunner.conf" in paths


def test_the_managers_of_ours_have_no_session_of_pams() -> None:
    """What PAM gives others stands in the drop-in of all managers; their units come from the same places."""
    files = {f.path: f.content for f in host.build(spec_of(more=STACK)).files}
    drop_ins = [content for path, content in files.items() if "/user@2" in path]
    assert len(drop_ins) == 2
    for content in drop_ins:
        assert b"\nPAMName=\n" in content
        assert b"\nEnvironment=SYSTEMD_UNIT_PATH=/etc/easyrunner/units/%i:" in content
    everybody = files["/etc/systemd/system/user@.service.d/00-easyrunner.conf"]
    for line in (b"KeyringMode=private", b"Environment=XDG_RUNTIME_DIR=/run/user/%i"):
        assert line in everybody.splitlines()


def test_first_boot_stays_small() -> None:
    file = next(f for f in host.build(spec_of()).files if f.path.endswith("/first-boot"))
    assert file.content.count(b"\n") < 100


@pytest.mark.parametrize(
    ("ca", "line"),
    [
        ("letsencrypt", b"acme_ca https://acme-v02.api.letsencrypt.org/directory"),
        ("letsencrypt-staging", b"acme_ca https://acme-staging-v02.api.letsencrypt.org/directory"),
        ("internal", b"local_certs"),
        ("https://ca.example.org:9000/acme/directory", b"acme_ca https://ca.example.org:9000/acme/directory"),
    ],
)
def test_certificates_come_from_whom_the_spec_says(ca: str, line: bytes) -> None:
    files = {f.path: f.content for f in host.build(spec_of(more=f'tls: {{ca: "{ca}"}}')).files}
    assert line in files["/etc/easyrunner/caddy/global.caddy"].splitlines()


def test_user_data_holds_any_bytes_that_a_stack_brings() -> None:
    """cloud-init gives back what YAML carried: text as text, the rest in base64."""
    for content in (
        b"\x00\xff",
        b"a\r\nb\n",
        b" lead\n",
        b"tail  \n\n",
        "ünï\u2028\n".encode(),
        b"",
        b"#!x\n\t: - '\"\n",
    ):
        entry = userdata.cloudconfig.entry(host.File("/x", content, Part.FIRST_BOOT))
        back = yaml.safe_load(yaml.dump(entry))
        assert _decoded(back) == content


def _decoded(entry: dict[str, str]) -> bytes:
    return base64.b64decode(entry["content"]) if entry.get("encoding") == "b64" else entry["content"].encode()


# What a client and a request may be.


def _site(more: str) -> str:
    stack = STACK.replace("port: 8080", f"port: 8080, {more}")
    files = {f.path: f.content for f in host.build(spec_of(more=stack)).files}
    return files["/etc/easyrunner/caddy/sites/hello.caddy"].decode()


def test_a_service_may_raise_or_end_what_the_proxy_allows() -> None:
    size, wait, queue = facts.MAX_BODY, f"{facts.RESPONSE_TIMEOUT}s", f"{facts.QUEUE_TIMEOUT}s"
    assert "\timport er_app hello/web\n" in _site("memory: 64M")
    assert f"\timport er_route hello/web unix 10737418240 {wait} {queue} 8KiB 2m\n" in _site("max_body: 10G")
    assert f"\timport er_route hello/web unix {size} 0s {queue} 8KiB 2m\n" in _site("response_timeout: none")
    assert f"\timport er_route hello/web unix 0 90.0s {queue} 8KiB 2m\n" in _site(
        "max_body: none, response_timeout: 1m30s"
    )
    assert f"\timport er_route hello/web unix {size} 8.0s 8.0s 8KiB 2m\n" in _site("response_timeout: 8s")


@pytest.mark.parametrize(("said", "line"), [("6h", b"read_body 21600.0s\n"), ("none", b"read_body 0s\n")])
def test_how_long_a_request_may_take_is_the_hosts(said: str, line: bytes) -> None:
    path = "/etc/easyrunner/caddy/timeouts.caddy"
    assert path not in {f.path for f in host.build(spec_of()).files}
    files = {f.path: f.content for f in host.build(spec_of(more=f"proxy: {{body_timeout: {said}}}")).files}
    assert files[path] == line


def test_the_ingress_leaves_its_file_where_the_proxy_looks() -> None:
    files = {f.path: f.content.decode() for f in host.build(spec_of(more=STACK)).files}
    script = files[f"{facts.LIB}/ingress"]
    assert f'beside() {{ echo "{facts.PROXY_SOCKETS}/${{USER#er-}}/$1"; }}' in script
    assert '"$0" inside "$2" "${3#er-ingress-}"' in script
    assert ': >"$(beside "$3.up")"' in script
    assert next_units.Next("shop", "$3", "web").kept_socket.name == "kept:$3.sock"
    assert 'beside "kept:$3.sock"' in script
    assert f"\t\troot {facts.PROXY_SOCKETS}\n\t\ttry_files {{args[0]}}.up\n" in files[f"{facts.ETC}/caddy/Caddyfile"]
    assert "/ingress gone %p\n" in files["/usr/lib/systemd/user/er-ingress-.service.d/10-easyrunner.conf"]


def test_one_client_cannot_fill_an_ingress() -> None:
    """With as many requests on each connection as HTTP/2 has there."""
    files = {f.path: f.content.decode() for f in host.build(spec_of()).files}
    assert facts.CLIENT_CONNECTIONS * 250 < facts.INGRESS_CONNECTIONS
    assert f"--connections-max={facts.INGRESS_CONNECTIONS} " in files[f"{facts.LIB}/ingress"]
    unit = files["/usr/lib/systemd/user/er-ingress-.service.d/10-easyrunner.conf"]
    assert int(unit.partition("LimitNOFILE=")[2].split()[0]) > 6 * facts.INGRESS_CONNECTIONS


BEHIND = {
    f"{facts.ETC}/caddy/headers-edge.caddy",
    f"{facts.ETC}/caddy/log-edge.caddy",
    f"{facts.ETC}/caddy/servers.caddy",
    facts.EDGE,
    f"{facts.FIREWALL}/23-edge.filter",
    f"{facts.FIREWALL}/23-edge.nat",
    "/etc/fail2ban/action.d/er-refuse.conf",
    "/etc/fail2ban/jail.d/er-edge.conf",
    "/etc/fail2ban/jail.d/20-host.local",
    "/etc/tmpfiles.d/20-easyrunner.conf",
    f"{facts.LIB}/refuse",
}


# By which a balancer asks for the host's health.
BALANCED = {
    f"{facts.ETC}/caddy/ready.caddy",
    f"{facts.ETC}/caddy/shut.caddy",
    "/etc/systemd/system/er-first-boot.service.d/70-balancer.conf",
}


@pytest.mark.parametrize(
    ("edge", "more"), [("cloudflare", set()), ("aws-nlb, networks: [10.0.0.0/24]", BALANCED)], ids=["cloudflare", "nlb"]
)
def test_only_a_host_behind_an_edge_carries_what_it_needs(edge: str, more: set[str]) -> None:
    """And nothing of what is baked is another one: an image serves hosts with and without."""
    plain = {file.path: file for file in host.build(spec_of(more=STACK)).files}
    behind = {file.path: file for file in host.build(spec_of(more=f"{STACK}proxy: {{behind: {edge}}}")).files}
    assert behind.keys() - plain.keys() == BEHIND | more
    assert not plain.keys() - behind.keys()
    different = {path for path in plain if plain[path] != behind[path]}
    assert different == {f"{facts.ETC}/caddy/global.caddy"}
    assert {behind[path].part for path in BEHIND} == {Part.FIRST_BOOT}


def test_who_is_believed_and_by_what() -> None:
    def servers(edge: str) -> str:
        built = host.build(spec_of(more=f"proxy: {{behind: {edge}}}"))
        (found,) = (file.content for file in built.files if file.path.endswith("/servers.caddy"))
        return " ".join(found.decode().split())

    own = servers("{networks: [10.0.0.0/24, 2001:db8::/48], header: X-Real-IP}")
    assert own == (
        "trusted_proxies static 10.0.0.0/24 2001:db8::/48 trusted_proxies_strict client_ip_headers X-Real-IP"
    )
    spoken = servers("{networks: [10.0.0.0/24], proxy_protocol: true}")
    assert spoken == (
        "listener_wrappers { proxy_protocol { timeout 30s allow 10.0.0.0/24 deny 127.0.0.0/8 ::1/128"
        " fallback_policy SKIP } tls }"
    )
    assert servers("cloudflare, networks: [10.0.0.0/24]").endswith("client_ip_headers CF-Connecting-IP")


def test_a_fleets_networks_are_filled_in() -> None:
    spec = specs.with_edge_networks(spec_of(more="proxy: {behind: aws-nlb, networks: [10.0.0.0/24]}"), ["10.9.0.7/32"])
    built = {file.path: file.content.decode() for file in host.build(spec).files}
    assert "allow 10.9.0.7/32\n" in built[f"{facts.ETC}/caddy/servers.caddy"]
    assert "10.9.0.7/32" in built[f"{facts.FIREWALL}/23-edge.filter"]
    assert "10.9.0.7/32" in built["/etc/fail2ban/jail.d/20-host.local"]
    with pytest.raises(ValueError, match="no edge"):
        specs.with_edge_networks(spec_of(), ["10.9.0.7/32"])


def test_an_edge_that_ends_tls_leaves_the_ca_one_way() -> None:
    def certificates(edge: str) -> str:
        built = host.build(spec_of(more=f"tls: {{ca: letsencrypt}}\nproxy: {{behind: {edge}}}"))
        return next(file.content.decode() for file in built.files if file.path.endswith("/global.caddy"))

    assert "disable_tlsalpn_challenge" in certificates("cloudflare")
    assert "disable_tlsalpn_challenge" not in certificates("aws-nlb, networks: [10.0.0.0/24]")
