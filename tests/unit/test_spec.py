from __future__ import annotations

import base64
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import compose, problem_report, spec
from builder.host.scanners import never_banned, own_pages
from builder.problems import Mark, Problem, SpecError
from builder.spec import input_model, rules, ssh_keys
from builder.spec.input_model import sections
from builder.spec.ssh_keys import read_entry
from builder.stack.model import EgressRule, Healthcheck, Limits, Mount, Service, Stack, Tmpfs, Volume
from builder.stack.secret_references import Secret

FILE = Path("easyrunner.yaml")


def ssh_key(kind: str, *fields: bytes) -> str:
    parts = (kind.encode(), *fields)
    return f"{kind} {base64.b64encode(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).decode()}"


KEY = ssh_key("ssh-ed25519", bytes(32))
HEAD = f"server: {{name: web1}}\nadmin: {{ssh_keys: ['{KEY} me']}}\n"


def load(text: str) -> spec.Spec:
    found, warnings = spec.loads(text, FILE)
    assert problem_report.as_text(warnings) == ""
    return found


def errors(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        spec.loads(text, FILE)
    return [f"{problem.where}: {problem.message}" for problem in caught.value.problems]


def test_defaults() -> None:
    found = load(HEAD)
    assert found == spec.Spec(
        server=spec.Server("web1", "debian-13", "amd64", "UTC"),
        admin=spec.Admin("er", (f"{KEY} me",)),
        ssh=spec.Ssh(("0.0.0.0/0", "::/0")),
        tls=spec.Tls(None, "letsencrypt"),
        proxy=spec.Proxy(found.proxy.image),
        fail2ban=spec.Fail2ban(()),
        stacks=(),
    )


_PINNED = f"docker.io/library/caddy:2.11.8@sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "with_image"),
    [
        ("", '{head}proxy: {{image: "{image}"}}\n'),
        ("tls: {ca: internal}", '{head}tls: {{ca: internal}}\nproxy: {{image: "{image}"}}\n'),
        ("proxy: {image: caddy:2.11.7}  # mine\n", '{head}proxy: {{image: "{image}"}}  # mine\n'),
        ("proxy:\r\n  image: 'caddy:2.11.7'\r\n", '{head}proxy:\r\n  image: "{image}"\r\n'),
    ],
)
def test_the_proxys_image_is_written_into_a_spec(text: str, with_image: str) -> None:
    """One value changes, or one line comes; the rest stays byte for byte."""
    made = spec.with_proxy_image(HEAD + text, FILE, _PINNED)
    assert made == with_image.format(head=HEAD, image=_PINNED)
    assert load(made).proxy.image == _PINNED


def test_short_form_with_everything() -> None:
    body = """
      stacks:
        - name: hello
          uid: 30000
          image: caddy:2.11
          command: [caddy, run]
          domains: [a.example.org, b.example.org]
          port: 8080
          environment: {LEVEL: info, COUNT: 3}
          memory: 1.5G
          cpus: 2
          pids: 100
          hardening: strict
          cap_add: [cap_chown, NET_RAW]
          read_only: true
          tmpfs: [/cache, "/run/app:size=64m,mode=0700"]
          volumes: [data:/data, "data:/more:ro"]
          secrets: [db_password]
          healthcheck: {test: [CMD-SHELL, "true"], interval: 1m30s, timeout: 500ms, retries: 3}
          egress:
            - {to: 203.0.113.7, protocol: udp, ports: [53]}
            - {to: "2001:db8::/32"}
    """
    assert load(HEAD + textwrap.dedent(body)).stacks == (
        Stack(
            name="hello",
            uid=30000,
            services=(
                Service(
                    name="web",
                    image="docker.io/library/caddy:2.11",
                    kind="web",
                    domains=("a.example.org", "b.example.org"),
                    port=8080,
                    hardening="strict",
                    command=("caddy", "run"),
                    environment=(("LEVEL", "info"), ("COUNT", "3")),
                    mounts=(
                        Mount("volume", "data", "/data"),
                        Mount("volume", "data", "/more", read_only=True),
                    ),
                    tmpfs=(Tmpfs("/cache"), Tmpfs("/run/app", ("size=64m", "mode=0700"))),
                    healthcheck=Healthcheck(("true",), shell=True, interval=90.0, timeout=0.5, retries=3),
                    cap_add=("CHOWN", "NET_RAW"),
                    read_only=True,
                    secrets=(Secret("db_password"),),
                    limits=Limits(1536 * 1024**2, 2.0, 100),
                ),
            ),
            volumes=(Volume("data"),),
            egress=(EgressRule("203.0.113.7/32", "udp", (53,)), EgressRule("2001:db8::/32")),
        ),
    )


def test_anchors_have_a_place_of_their_own() -> None:
    anchor = "x-app: &app {image: 'caddy:2.11', port: 8080}\n"
    text = HEAD + anchor + "stacks:\n  - {<<: *app, name: a, domain: a.example.org}\n"
    assert load(text).stacks[0].services[0].port == 8080


def test_all_problems_in_one_run() -> None:
    text = """
      server: {name: WEB, bse: x}
      tls: {ca: x}
      stacks:
        - {name: a, image: A, port: 1}
        - {name: a, compose: no.yaml}
    """
    assert sorted(line.partition(": ")[0] for line in errors(text)) == [
        "admin",
        "server.bse",
        "server.name",
        "stacks[0]",
        "stacks[0].image",
        "stacks[0].port",
        "stacks[1].compose",
        "stacks[1].name",
        "tls.ca",
    ]


def test_keys_from_files(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/id.pub").write_text(f"# mine\n\n{KEY}  me\n{KEY} again\n")
    path = tmp_path / "easyrunner.yaml"
    path.write_text("server: {name: web1}\nadmin: {ssh_keys: [keys/id.pub]}\n")
    assert spec.load(path)[0].admin.ssh_keys == (f"{KEY} me", f"{KEY} again")


def test_several_keys_in_one_block() -> None:
    text = f"server: {{name: web1}}\nadmin:\n  ssh_keys:\n    - |\n      {KEY} a\n      {KEY} b\n"
    assert load(text).admin.ssh_keys == (f"{KEY} a", f"{KEY} b")


@pytest.mark.parametrize(
    "line",
    [
        KEY,
        ssh_key("ecdsa-sha2-nistp256", b"nistp256", bytes(65)),
        ssh_key("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 512),
        ssh_key("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:"),
        ssh_key("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", bytes(65), b"ssh:"),
    ],
)
def test_every_type_of_key_that_the_server_takes(line: str) -> None:
    assert read_entry(f"{line} comment", Path()).lines == (f"{line} comment",)
    assert list(ssh_keys.key_faults(line)) == []


def test_ca_root_is_read(tmp_path: Path) -> None:
    pem = b"-----BEGIN CERTIFICATE-----\nxyz\n-----END CERTIFICATE-----\n"
    (tmp_path / "root.pem").write_bytes(pem)
    path = tmp_path / "easyrunner.yaml"
    path.write_text(HEAD + "tls: {ca: 'https://acme.example.org/dir', ca_root: root.pem}\n")
    assert spec.load(path)[0].tls == spec.Tls(None, "https://acme.example.org/dir", pem)


def fake_compose(monkeypatch: pytest.MonkeyPatch, *services: Service) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def read(path: Path, *, stack: str, report: Any, **rest: Any) -> Any:
        assert rest == {"over": (), "public": None, "secret_env": {}}
        calls.append((path, stack, report))
        return SimpleNamespace(services=services, volumes=(), networks=(), files=())

    monkeypatch.setattr(compose, "load", read, raising=False)
    return calls


def compose_spec(tmp_path: Path, rest: str = "") -> Path:
    (tmp_path / "blog").mkdir()
    (tmp_path / "blog/compose.yaml").write_text("services: {}\n")
    path = tmp_path / "easyrunner.yaml"
    path.write_text(HEAD + "stacks:\n  - name: blog\n    compose: blog/compose.yaml\n" + rest)
    return path


def test_compose_files_are_read_by_the_compose_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("app", "docker.io/library/caddy:2.11", "web", ("blog.example.org",))
    calls = fake_compose(monkeypatch, service)
    stack = spec.load(compose_spec(tmp_path))[0].stacks[0]
    assert [(call[0], call[1]) for call in calls] == [(tmp_path / "blog/compose.yaml", "blog")]
    assert stack.services == (service,)


def test_files_of_a_list_and_an_override_are_laid_over_each_other(tmp_path: Path) -> None:
    path = compose_spec(tmp_path, "    public: {web: {domains: [blog.example.org], port: 80}}\n")
    base = "services: {web: {image: 'docker.io/library/caddy:2.11', command: a}}\n"
    (tmp_path / "blog/compose.yaml").write_text(base)
    (tmp_path / "blog/compose.override.yml").write_text("services: {web: {command: b}}\n")
    (tmp_path / "blog/prod.yaml").write_text("services: {web: {working_dir: /srv}}\n")
    found, warnings = spec.load(path)
    web = found.stacks[0].services[0]
    assert (web.command, web.domains, web.port, web.kind) == (("b",), ("blog.example.org",), 80, "web")
    assert ["compose.override.yml lies beside it" in warning.message for warning in warnings] == [True]
    text = path.read_text()
    for listed, command, directory in (("", "a", None), (", blog/prod.yaml", "a", "/srv")):
        path.write_text(text.replace("compose: blog/compose.yaml", f"compose: [blog/compose.yaml{listed}]"))
        found, warnings = spec.load(path)
        web = found.stacks[0].services[0]
        assert (web.command, web.working_dir, warnings) == ((command,), directory, ())


def test_a_domain_of_the_spec_is_told_where_it_is_written(tmp_path: Path) -> None:
    public = "    public: {web: {domains: [blog.example.org], port: 80}}"
    other = "  - {name: other, image: 'caddy:2.11', domain: blog.example.org}"
    path = compose_spec(tmp_path, f"{public}\n{other}\n")
    (tmp_path / "blog/compose.yaml").write_text("services: {web: {image: 'docker.io/library/caddy:2.11'}}\n")
    with pytest.raises(SpecError) as caught:
        spec.load(path)
    line = path.read_text().splitlines().index(public) + 1
    assert [str(problem.hint).split(";")[0] for problem in caught.value.problems] == [f"that one is at {path}:{line}"]


def test_domains_are_compared_across_compose_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Mark(tmp_path / "blog/compose.yaml", 1, 1)
    fake_compose(monkeypatch, Service("app", "x", "web", ("a.example.org",), mark=mark))
    other = "  - {name: other, image: 'caddy:2.11', domain: a.example.org}\n"
    with pytest.raises(SpecError) as caught:
        spec.load(compose_spec(tmp_path, other))
    [problem] = caught.value.problems
    assert problem.where == "stacks[1].domain"
    assert str(problem.hint).startswith(f"that one is at {mark.file}:1;")


def test_template_passes_with_a_warning_about_its_key() -> None:
    found, warnings = spec.loads(spec.template(), FILE)
    assert [problem.where for problem in warnings] == ["admin.ssh_keys[0]"]
    assert len(found.stacks) == 1


def test_schema_accepts_the_template_and_refuses_mistakes() -> None:
    import jsonschema  # noqa: PLC0415  a second, which each worker would spend

    schema = spec.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    given = yaml.safe_load(spec.template())
    assert list(check.iter_errors(given)) == []
    for mistake in (
        {**given, "stack": []},
        {**given, "server": {"name": "web1", "base": "fedora"}},
        {**given, "stacks": [{"name": "a"}]},
        {**given, "stacks": [{"name": "a", "compose": "x", "image": "y"}]},
        {**given, "stacks": [{"name": "A_", "compose": "x"}]},
        {**given, "tls": {"email": None}},
    ):
        assert list(check.iter_errors(mistake))


def test_whom_fail2ban_bans() -> None:
    """An IPv6 address that is ignored stands for the /64 that it counts in; known images bring their own pages."""
    body = """
      fail2ban:
        ignore: ["2001:db8::7", "2001:db8:1::/48", 203.0.113.7]
        disable: [web-flood]
        allow: {shop.example.org: [/actuator/health, /x.y/]}
      stacks:
        - {name: blog, image: "docker.io/bitnami/wordpress:6", domain: blog.example.org, port: 8080}
        - {name: shop, image: "ghcr.io/you/wordpress-like:1", domain: shop.example.org, port: 8080}
    """
    found = load(HEAD + textwrap.dedent(body))
    assert found.fail2ban.disable == ("web-flood",)
    assert found.fail2ban.allow == (("shop.example.org", ("/actuator/health", "/x.y/")),)
    assert never_banned(found) == ("2001:db8::/64", "2001:db8:1::/48", "203.0.113.7/32")
    own, allowed = own_pages(found)
    assert re.match(own, "404 //blog.example.org/wp-login.php")
    assert not re.match(own, "404 //blogXexample.org/wp-login.php")
    assert allowed == r"4\d\d //(?:shop\.example\.org)/+(?:actuator/health|x\.y/)"


def test_every_field_explains_itself() -> None:
    bare = [
        f"{section}.{name}"
        for section, model in sections().items()
        for name, field in input_model.keys(model).items()
        if not field.description or not field.examples
    ]
    assert bare == []
    assert [section for section, model in sections().items() if not model.__doc__] == []


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DB_PASSWORD", "hunter2", True),
        ("API_TOKEN", "x", True),
        ("SECRET_KEY_BASE", "x", True),
        ("STRIPE_APIKEY", "x", True),
        ("PASSWORD_FILE", "/run/secrets/x", False),
        ("TOKEN_TTL", "3600", False),
        ("DB_PASSWORD", "", False),
        ("COMPASS", "north", False),
        ("MONKEY", "x", False),
        ("SECRETS_ENABLED", "true", False),
    ],
)
def test_what_looks_like_a_secret(name: str, value: str, *, secret: bool) -> None:
    assert rules.looks_secret(name, value) is secret


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("512mb", 512 << 20),
        ("1GiB", 1 << 30),
        ("20000k", 20000 << 10),
        ("33554432", 32 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert rules.memory(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1.5s", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert rules.duration(text) == seconds


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["a", "caddy:2", KEY]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
_KEYS = sorted({name for model in sections().values() for name in input_model.keys(model)})
SECTIONS = st.dictionaries(st.one_of(st.sampled_from(_KEYS), st.text(max_size=5)), VALUES, max_size=6)
SPECS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            **{name: st.one_of(VALUES, SECTIONS) for name in input_model.SpecInput.model_fields},
            "stacks": st.lists(st.one_of(VALUES, SECTIONS), max_size=3),
        },
    ),
)


@settings(max_examples=300, deadline=None)
@given(SPECS)
def test_any_value_is_a_spec_or_a_spec_error(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    found: tuple[Problem, ...] = ()
    try:
        _, found = spec.loads(text, FILE)
    except SpecError as error:
        found = error.problems
    assert problem_report.as_text(found).count("-->") == sum(
        problem["line"] is not None for problem in problem_report.as_json(found)
    )
