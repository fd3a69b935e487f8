"""What projects ship that Compose itself takes: mounts of the host, of others and twice, variables that are not set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import compose
from builder.problems import Report
from builder.stack.model import Mount

if TYPE_CHECKING:
    from pathlib import Path

    from builder.compose import StackContents


def load(root: Path, text: str, **files: str) -> tuple[StackContents | None, list[str]]:
    """The stack of a Compose file, and what is said, each as `severity: message`."""
    for name, content in files.items():
        (root / name.replace("__", ".")).write_text(content)
    (root / "compose.yaml").write_text(text)
    report = Report()
    secrets = {"web": {"KEY"}}
    contents = compose.load(root / "compose.yaml", stack="app", report=report, secret_env=secrets)
    return contents, [f"{problem.severity}: {problem.message}" for problem in report]


def mounts(contents: StackContents | None) -> dict[str, tuple[Mount, ...]]:
    assert contents is not None
    return {service.name: service.mounts for service in contents.services}


def service(name: str, *lines: str) -> str:
    return "".join(f"{line}\n" for line in (f"  {name}:", "    image: docker.io/x/y:1", *(f"    {x}" for x in lines)))


@pytest.mark.parametrize(
    ("source", "directory"),
    [
        ("/srv/media", ".host/srv/media"),
        ("//mnt/../data/", ".host/data"),
        ("~/media", ".home/media"),
        ("~/.n8n", ".home/.n8n"),
        ("/home/me/.n8n", ".host/home/me/.n8n"),
        ("~/../../etc", ".home/etc"),
        ("~/", ".home"),
        ("../media/films", ".above/media/films"),
    ],
)
def test_services_share_an_empty_directory_for_a_path_that_a_fresh_server_does_not_have(
    tmp_path: Path, source: str, directory: str
) -> None:
    (tmp_path / "stack").mkdir()
    text = "services:\n" + service("one", f"volumes: ['{source}:/a']") + service("two", f"volumes: ['{source}:/b:ro']")
    contents, said = load(tmp_path / "stack", text)
    assert mounts(contents) == {
        "one": (Mount("bind", directory, "/a"),),
        "two": (Mount("bind", directory, "/b", read_only=True),),
    }
    assert [line for line in said if source in line and directory in line and line.startswith("warning: ")]


@pytest.mark.parametrize(
    "source",
    ["/srv/app.conf", "~/.aws", "~/app.conf", "../there", "../app.conf", "/etc/ssl/x", "/lib/modules", "/home"],
)
def test_files_and_what_is_the_hosts_are_refused(tmp_path: Path, source: str) -> None:
    (tmp_path / "stack").mkdir()
    (tmp_path / "there").mkdir()
    contents, said = load(tmp_path / "stack", "services:\n" + service("web", f"volumes: ['{source}:/a']"))
    assert contents is None
    assert len([line for line in said if line.startswith("error: ")]) == 1


def test_what_lies_above_comes_along_by_a_file_further_up(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "site.conf").write_text("x")
    text = "services:\n" + service("web", "volumes: ['../site.conf:/site.conf:ro']")
    assert load(tmp_path / "docker", text)[0] is None
    (tmp_path / "above.yaml").write_text("include: [docker/compose.yaml]\n")
    contents = compose.load(tmp_path / "above.yaml", stack="app", report=Report())
    assert mounts(contents) == {"web": (Mount("bind", "site.conf", "/site.conf", read_only=True),)}


def test_the_whole_directory_is_empty_where_only_compose_has_files(tmp_path: Path) -> None:
    text = "services:\n" + service("web", "volumes: ['.:/here:delegated']") + service("other", "volumes: ['.:/in:ro']")
    contents, _ = load(tmp_path, text, __env="A=b\n")
    assert mounts(contents) == {
        "web": (Mount("bind", ".here", "/here"),),
        "other": (Mount("bind", ".here", "/in", read_only=True),),
    }
    (tmp_path / "app.py").write_text("")
    assert load(tmp_path, text)[0] is None


def test_a_directory_that_is_only_read_is_written_by_another_service(tmp_path: Path) -> None:
    reads, writes = service("web", "volumes: ['./media/films:/a:ro']"), service("app", "volumes: ['./media:/a']")
    assert load(tmp_path, f"services:\n{reads}{writes}")[0] is not None
    contents, said = load(tmp_path, f"services:\n{reads}")
    assert contents is None
    assert said == ["error: there is no ./media/films beside the compose file"]


def test_a_fixed_address_that_is_made_of_a_variable_is_seen_where_it_is_used(tmp_path: Path) -> None:
    address = "${NETWORK:-172.22.1}.254"
    text = "services:\n" + service("dns", f'networks: {{default: {{ipv4_address: "{address}"}}}}')
    assert load(tmp_path, text)[0] is not None
    contents, said = load(tmp_path, text + service("web", f'dns: ["{address}"]'))
    assert contents is None
    assert "error: addresses on a network are handed out, and this one is named elsewhere in the file" in said


def test_ports_for_the_host_alone_make_no_web_service(tmp_path: Path) -> None:
    text = "services:\n" + service("bridge", "ports: ['10000:10000/udp', '127.0.0.1:8080:8080']")
    contents, said = load(tmp_path, text)
    assert contents is None
    assert "error: this host serves HTTP and HTTPS only: nothing outside reaches 10000/udp" in said


def test_a_port_of_another_protocol_is_a_warning_where_services_of_the_stack_need_the_service(tmp_path: Path) -> None:
    broker, app = service("broker", "ports: ['1883:1883']"), service("app", "depends_on: [broker]")
    assert load(tmp_path, f"services:\n{broker}")[0] is None
    contents, said = load(tmp_path, f"services:\n{broker}{app}")
    assert contents is not None
    assert "warning: this host serves HTTP and HTTPS only: nothing outside reaches 1883" in said
    game = service("broker", "ports: ['1883:1883', '19132:19132/udp']")
    assert load(tmp_path, f"services:\n{game}{app}")[0] is None


def test_what_is_wrong_with_an_image_of_several_services_is_one_problem(tmp_path: Path) -> None:
    text = "x-app: &app {image: x/y}\nservices:\n  web: *app\n  worker: {<<: *app, command: work}\n"
    _, said = load(tmp_path, text)
    assert len([line for line in said if "no tag" in line]) == 1


def test_an_address_may_be_left_empty_and_have_blanks(tmp_path: Path) -> None:
    text = "services:\n" + service("web", "ports: ['${BIND:-}:8080:80', ':443:443']", "extra_hosts: ['a:192.0.2.1 ']")
    contents, said = load(tmp_path, text)
    assert contents is not None, said
    assert contents.services[0].extra_hosts == (("a", "192.0.2.1"),)


def test_of_two_mounts_on_one_path_the_later_counts(tmp_path: Path) -> None:
    text = "services:\n" + service("web", "volumes: ['a:/x', {type: bind, source: ./b, target: /x/}]")
    contents, said = load(tmp_path, f"{text}volumes: {{a: }}\n")
    assert mounts(contents) == {"web": (Mount("bind", "b", "/x/"),)}
    assert len([line for line in said if "stands later in the list" in line]) == 1


def test_mounts_of_other_services(tmp_path: Path) -> None:
    text = (
        "services:\n"
        + service("last", "volumes_from: ['worker']", "volumes: ['own:/own']")
        + service("worker", "volumes_from: ['web:ro']", "volumes: ['own:/data']")
        + service("web", "volumes: ['data:/data', './conf:/conf']")
    )
    contents, _ = load(tmp_path, f"{text}volumes: {{data: , own: }}\n")
    found = mounts(contents)
    assert found["worker"] == (Mount("volume", "own", "/data"), Mount("bind", "conf", "/conf", read_only=True))
    assert found["last"] == (Mount("volume", "own", "/own"), *found["worker"])
    assert contents is not None
    assert [[wanted.service for wanted in one.depends_on] for one in contents.services] == [["worker"], ["web"], []]


@pytest.mark.parametrize("implied", ["links: [db]", "volumes_from: [db]"])
def test_what_other_keys_imply_does_not_replace_a_condition(tmp_path: Path, implied: str) -> None:
    written = "depends_on: {db: {condition: service_healthy}}"
    for lines in ((implied, written), (written, implied)):
        text = "services:\n" + service("db", "volumes: [./x:/x]", "healthcheck: {test: ok}") + service("web", *lines)
        contents, said = load(tmp_path, text)
        assert contents is not None, said
        [_, web] = contents.services
        assert [(wanted.service, wanted.condition) for wanted in web.depends_on] == [("db", "service_healthy")]


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        (["image: ghcr.io/x/y:1", "build: ."], "ghcr.io/x/y:1"),
        (["image: x/y:1", "build: {context: .}"], "docker.io/x/y:1"),
        (["image: my_app", "build: ."], "localhost/app/web"),
        (["image: ghcr.io/x/y:1", "build: .", "pull_policy: never"], "localhost/app/web"),
        (["image: ghcr.io/x/y:1", "pull_policy: build", "build: ."], "localhost/app/web"),
        (["build: ."], "localhost/app/web"),
    ],
)
def test_an_image_that_is_only_what_a_build_is_called_is_not_pulled(
    tmp_path: Path, lines: list[str], taken: str
) -> None:
    text = "services:\n  web:\n" + "".join(f"    {line}\n" for line in lines)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    contents, said = load(tmp_path, text)
    assert contents is not None, said
    [web] = contents.services
    built = taken.startswith("localhost/")
    assert (web.image, web.pull == "never", web.build is not None) == (taken, built, built)


def test_a_variable_without_a_value_is_one_problem(tmp_path: Path) -> None:
    text = "services:\n" + service(
        "web", 'ports: ["${PORT}"]', 'volumes: ["${DATA}:/a"]', 'environment: {A: "${DATA}"}'
    )
    contents, said = load(tmp_path, text)
    assert contents is None
    assert said == [
        "error: this is no port; without a value of PORT it is ``",
        "error: this is no volume; without a value of DATA it is `:/a`",
    ]
    text = "services:\n" + service("web", 'volumes: ["${DATA}:/a"]') + service("app", 'volumes: ["${DATA}:/b:ro"]')
    assert load(tmp_path, text)[1] == ["error: this is no volume; without a value of DATA it is `:/a` (also for app)"]


def test_only_http_of_ports_by_udp_is_caddys(tmp_path: Path) -> None:
    label = "labels: {xyz.easyrunner.service.domain: app.example.org, xyz.easyrunner.service.port: '80'}"
    text = "services:\n" + service("web", label, "ports: [80:80, 443:443, '443:443/udp', '8443:8443/udp']")
    _, said = load(tmp_path, text)
    assert "warning: this host serves HTTP and HTTPS only: nothing outside reaches 8443/udp" in said


def test_a_secret_of_a_service_that_extends_another_is_not_asked_for(tmp_path: Path) -> None:
    base = service("base", 'environment: {KEY: "${KEY:?set me}"}')
    for environment in ('{KEY: "${KEY:?set me}"}', '["KEY=${KEY:?set me}"]'):
        base = "services:\n" + service("base", f"environment: {environment}")
        extending = service("web", "extends: {service: base, file: base.yaml}")
        contents, said = load(tmp_path, f"services:\n{extending}", base__yaml=base)
        assert contents is not None, said
        assert contents.services[0].environment == ()
        # The base is a service that runs, and has no such secret.
        contents, said = load(tmp_path, base + service("web", "extends: base"))
        assert contents is None
        assert [line for line in said if line.startswith("error")] == ["error: the variable KEY is required: set me"]


def test_a_config_of_a_variable(tmp_path: Path) -> None:
    text = "services:\n" + service("web", "configs: [site]") + "configs: {site: {environment: SITE}}\n"
    contents, _ = load(tmp_path, text, __env="SITE='a: $b'\n")
    assert contents is not None
    assert [(file.path, file.content) for file in contents.files] == [(".configs/site", b"a: $b")]


def test_words_after_the_shell_are_its_parameters(tmp_path: Path) -> None:
    contents, _ = load(
        tmp_path, "services:\n" + service("web", "healthcheck: {test: [CMD-SHELL, pg_isready, -U, app]}")
    )
    assert contents is not None
    check = contents.services[0].healthcheck
    assert check is not None
    assert (check.test, check.shell) == (("/bin/sh", "-c", "pg_isready", "-U", "app"), False)


def test_a_merge_key_with_its_tag(tmp_path: Path) -> None:
    text = "x-base: &base {image: docker.io/x/y:1, init: true}\nservices:\n  web:\n    !!merge <<: *base\n"
    contents, said = load(tmp_path, text)
    assert contents is not None, said
    assert contents.services[0].init is True


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ("{type: none, o: bind, device: /srv/data}", True),
        ("{type: '', o: '', device: ''}", True),
        ("{type: none, o: bind, device: /etc}", False),
        ("{type: none, o: bind, device: ./here}", False),
        ("{type: nfs, o: 'addr=10.0.0.9,rw', device: ':/srv'}", False),
    ],
)
def test_volumes_with_options(tmp_path: Path, options: str, taken: bool) -> None:
    text = "services:\n" + service("web", "volumes: ['data:/data']")
    contents, _ = load(tmp_path, f"{text}volumes: {{data: {{driver_opts: {options}}}}}\n")
    assert (contents is not None) is taken
