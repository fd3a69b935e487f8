"""How the world reaches a public service: rules of single values, sites of a stack, and what the proxy is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import host, problem_report, spec
from builder.compose import labels
from builder.problems import SpecError
from builder.spec.stack_input import PublicInput
from builder.stack import public, variables
from builder.stack.model import Service, Stack

if TYPE_CHECKING:
    from collections.abc import Iterable

_HASH = "$2y$12$OMnbH5t3f3oyLs3W8hgr1.xN6mvAqkOQdSWmKtrqrOSCNuGB6tGbe"
_HEAD = (
    "server: {name: web1}\nadmin: {ssh_keys: "
    '["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"]}\n'
)


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/a.b/c-d/~e_f", "/..a", "/.well-known"])
def test_a_path(path: str) -> None:
    assert public.path_fault(path) is None


@pytest.mark.parametrize(
    "path",
    ["", "api", "//", "/a//b", "/.", "/..", "/a/../b", "/a/.", "/a b", "/a*", "/%61", "/{a}", "/a?b", "/a#b", "/ä"],
)
def test_no_path(path: str) -> None:
    assert public.path_fault(path) is not None


@pytest.mark.parametrize(
    ("said", "paths"), [([], ()), (["/"], ()), (["/a/", "/a", "/b"], ("/a", "/b")), (["/a", "/"], ())]
)
def test_paths_of_a_service(said: Iterable[str], paths: tuple[str, ...]) -> None:
    assert public.normal_paths(said) == paths


@pytest.mark.parametrize("value", ["a", "default-src 'self'; #x", '"x"', "a`b", "a\\b", "max-age=1, b", "0"])
def test_a_header(value: str) -> None:
    assert public.header_value_fault(value) is None


@pytest.mark.parametrize(
    "value", ["", " ", " a", "a ", "a\nb", "a\r\nSet-Cookie: b", "a\tb", "a\x00b", "{a}", "{$HOME}", "a}", "`\\", "ä"]
)
def test_no_header(value: str) -> None:
    assert public.header_value_fault(value) is not None


@pytest.mark.parametrize(
    "name", ["Connection", "transfer-encoding", "Alt-Svc", "content-LENGTH", "", "-A", "A B", "A_B", "A:"]
)
def test_not_the_name_of_a_header(name: str) -> None:
    assert public.header_fault(name) is not None


@pytest.mark.parametrize("value", [_HASH, _HASH.replace("$2y$12", "$2a$10"), _HASH.replace("$2y$12", "$2b$14")])
def test_a_hash(value: str) -> None:
    assert public.hash_fault(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "",
        _HASH[:-1],
        f"{_HASH}x",
        f"alice:{_HASH}",
        _HASH.replace("$12$", "$09$"),
        _HASH.replace("$12$", "$15$"),
        _HASH.replace("$2y", "$2x"),
        "$argon2id$v=19$m=47104,t=1,p=1$a$b",
        "$apr1$a$b",
        "{SHA}x",
    ],
)
def test_no_hash(value: str) -> None:
    assert public.hash_fault(value) is not None


def _service(name: str, *domains: str, **more: object) -> Service:
    return replace(Service(name, "x", "web", domains), **more)  # type: ignore[arg-type]


def test_sites_are_names_that_are_served_alike() -> None:
    web = _service("web", "a.org", "b.org", redirect_from=("www.a.org",))
    api = _service("api", "a.org", paths=("/api", "/x/y/z"))
    deep = _service("deep", "a.org", paths=("/api/deep",))
    stack = Stack("s", 1, (web, api, deep, Service("db", "x")))
    found = [
        (site.names, [(route.path, route.service.name) for route in site.routes], site.redirect)
        for site in public.sites(stack)
    ]
    routes = [("/api/deep", "deep"), ("/x/y/z", "api"), ("/api", "api"), ("/", "web")]
    assert found == [(("a.org",), routes, None), (("b.org",), [("/", "web")], None), (("www.a.org",), [], "a.org")]
    assert [site.plain for site in public.sites(stack)] == [False, True, False]
    assert stack.domains == ("a.org", "b.org", "www.a.org")


def test_an_app_is_told_its_whole_address() -> None:
    api = _service("api", "a.org", paths=("/api", "/b"))
    told = variables.injected(Stack("s", 1, (api,)), api)
    assert told["EASYRUNNER_APP_URL"] == told["EASYRUNNER_SERVICE_API_URL"] == "https://a.org/api"
    assert told["EASYRUNNER_DOMAIN"] == "a.org"


def _sites(stacks: str) -> str:
    built = host.build(spec.loads(f"{_HEAD}stacks:\n{stacks}", Path("easyrunner.yaml"))[0])
    return next(file.content.decode() for file in built.files if "/caddy/sites/" in file.path)


def test_what_the_proxy_is_told() -> None:
    said = _sites(
        "  - name: a\n    image: docker.io/library/caddy:2.11\n    domain: a.example.org\n    path: /v.2\n"
        "    strip_path: true\n    redirect_from: www.example.org\n    protocol: h2c\n"
        f"    headers: {{X-A: 'b \"c\"', X-D: null}}\n    basic_auth: {{alice: {_HASH}}}\n"
    )
    assert said == (
        "a.example.org {\n"
        "\timport er_site\n"
        "\t@1 path_regexp `^/v\\.2(/|$)`\n"
        "\thandle @1 {\n"
        "\t\turi strip_prefix /v.2\n"
        "\t\theader {\n"
        '\t\t\t>X-A "b \\"c\\""\n'
        "\t\t\t-X-D\n"
        "\t\t}\n"
        "\t\tbasic_auth {\n"
        f'\t\t\talice "{_HASH}"\n'
        "\t\t}\n"
        "\t\trequest_header -Authorization\n"
        "\t\timport er_route a/web unix+h2c 2147483648 3600s 60s 0 2m\n"
        "\t}\n"
        "\thandle {\n"
        "\t\terror 404\n"
        "\t}\n"
        "}\n"
        "www.example.org {\n"
        "\timport er_moved a.example.org\n"
        "}\n"
    )


def test_a_password_in_a_spec_is_not_shown() -> None:
    """Neither by its own problem, nor by another in the same line."""
    stack = "  - {name: a, image: 'caddy:2.11', domain: a.example.org, basic_auth: {bob: hunter2}, x_y: 1}\n"
    with pytest.raises(SpecError) as caught:
        spec.loads(f"{_HEAD}stacks:\n{stack}", Path("easyrunner.yaml"))
    assert len(caught.value.problems) == 2
    assert "hunter2" not in problem_report.as_text(caught.value.problems)


def test_labels_say_the_same_as_the_spec(tmp_path: Path) -> None:
    """Half by labels, half in the spec; headers and users in the spec alone."""
    label = "xyz.easyrunner.service"
    (tmp_path / "compose.yaml").write_text(
        "services:\n  api:\n    image: docker.io/library/caddy:2.11\n    labels:\n"
        f"      {label}.domain: a.example.org\n      {label}.path: /api/, /v1\n      {label}.strip-path: 'true'\n"
        "  rpc:\n    image: docker.io/library/caddy:2.11\n    labels:\n"
        f"      {label}.domain: a.example.org\n      {label}.redirect-from: b.example.org, c.example.org\n"
        f"      {label}.protocol: h2c\n"
    )
    said = f"{{path: [/api, /v1], strip_path: true, headers: {{X-A: b}}, basic_auth: {{al: {_HASH}}}}}"
    path = tmp_path / "easyrunner.yaml"
    path.write_text(
        f"{_HEAD}stacks:\n  - {{name: a, compose: compose.yaml, public: {{api: {{headers: {{X-A: b}}}}}}}}\n"
    )
    [api, rpc] = spec.load(path)[0].stacks[0].services
    assert (api.paths, api.strip_path, api.headers) == (("/api", "/v1"), True, (("X-A", "b"),))
    assert (rpc.protocol, rpc.redirect_from) == ("h2c", ("b.example.org", "c.example.org"))
    text = (tmp_path / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text("".join(f"{one}\n" for one in text.splitlines() if "path" not in one))
    path.write_text(f"{_HEAD}stacks:\n  - {{name: a, compose: compose.yaml, public: {{api: {said}}}}}\n")
    [other, _] = spec.load(path)[0].stacks[0].services
    assert replace(other, basic_auth=(), labels=api.labels, environment=api.environment) == api
    assert other.basic_auth == (("al", _HASH),)


def test_every_key_of_a_public_service_is_known_where_compose_files_are_read() -> None:
    """A key that is not counts as a misspelt one there."""
    assert {*labels.KEYS, *labels.ONLY_IN_SPEC} == set(PublicInput.model_fields)
