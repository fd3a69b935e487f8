"""What `er init --compose` decides: the public service and its port, secrets, names, and the YAML of the spec."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder import spec as specs
from builder.compose.survey import Survey, survey
from builder.problems import Report, SpecError, UserError
from builder.stack import user
from builder.starter import compose_files, plan, questions, request, secret_variables, spec_file, web_service
from builder.starter.compose_files import StackFiles
from builder.starter.questions import App, Question
from builder.starter.request import Request
from builder.yamlfile import source

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., Survey]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """What services say, given as values."""

    def read(services: dict[str, Any], env: str = "", **top: Any) -> Survey:
        (tmp_path / "compose.yaml").write_text(yaml.safe_dump({"services": services, **top}, sort_keys=False))
        if env:
            (tmp_path / ".env").write_text(env)
        report = Report()
        said = survey([tmp_path / "compose.yaml"], report)
        assert said is not None, [*report]
        return said

    return read


def service(image: str = "ghcr.io/acme/app:1", **more: Any) -> dict[str, Any]:
    return {"image": image, **more}


OTHER = service("ghcr.io/acme/other:1")
POSTGRES = "docker.io/library/postgres:16"


# ---- which service


@pytest.mark.parametrize(
    ("services", "chosen"),
    [
        pytest.param({"x": service(ports=["8080:8080"]), "y": OTHER}, "x", id="publishes"),
        pytest.param({"x": service(ports=["127.0.0.1:8080:8080"]), "y": OTHER}, "x", id="for the host alone"),
        pytest.param(
            {"x": service(ports=["80:1234"]), "y": service(ports=["1234:9999"])}, None, id="80 does not decide"
        ),
        pytest.param(
            {"x": service(ports=["80:80"]), "api": service(ports=["1234:9999"], expose=[1])}, None, id="a tie"
        ),
        pytest.param({"x": service(ports=["8080:8080"]), "y": service(ports=["8081:8081"])}, None, id="two publish"),
        pytest.param({"x": OTHER, "db": service(POSTGRES, ports=["5432:5432"])}, "x", id="no database"),
        pytest.param({"x": OTHER, "m": service("axllent/mailpit:1", ports=["8025:8025"])}, "x", id="no tool"),
        pytest.param({"x": service(ports=["2222:22"]), "y": service(ports=["3000:3000"])}, "y", id="SSH is no web"),
        pytest.param({"x": service(ports=["53:53/udp"]), "y": service(expose=["3000"])}, "y", id="UDP is no web"),
        pytest.param({"x": service("docker.io/library/ghost:5"), "y": OTHER}, "x", id="a known image"),
        pytest.param({"x": service("wordpress:6-fpm"), "nginx": service("nginx:1")}, "nginx", id="FastCGI is no web"),
        pytest.param({"frontend": OTHER, "backend": OTHER}, None, id="names that are near"),
        pytest.param({"web": OTHER, "worker": OTHER}, "web", id="names that are not"),
        pytest.param({"app": OTHER, "nginx": service(depends_on=["app"])}, "nginx", id="who waits is before"),
        pytest.param({"web": OTHER, "worker": service(depends_on=["web"])}, "web", id="a worker waits for the web"),
        pytest.param({"a": OTHER, "b": OTHER}, None, id="nothing says anything"),
        pytest.param({"a": OTHER}, "a", id="the only one"),
        pytest.param(
            {"x": OTHER, "y": service(labels={"traefik.enable": "true"}), "web": service(ports=["80:80"])},
            "y",
            id="a proxy is told by labels",
        ),
        pytest.param(
            {"x": OTHER, "y": service(labels=["caddy=y.example.org"]), "web": service(ports=["80:80"])},
            "y",
            id="caddy's labels",
        ),
        pytest.param(
            {"x": service(environment={"VIRTUAL_HOST": "x.example.org"}), "web": service(ports=["80:80"])},
            "x",
            id="nginx-proxy's variables",
        ),
        pytest.param(
            {
                "x": service(labels={"xyz.easyrunner.service.type": "web"}),
                "y": service(labels={"traefik.enable": "true"}),
            },
            "x",
            id="our own label before all",
        ),
        pytest.param(
            {"web": service(labels={"xyz.easyrunner.service.type": "internal"}), "y": OTHER, "z": OTHER},
            None,
            id="our own label against it",
        ),
        pytest.param({"traefik": service("traefik:v3", ports=["80:80"]), "x": OTHER}, "x", id="no proxy of a host"),
        pytest.param(
            {"x": OTHER, "y": service(ports=["80:80"], profiles=["debug"])}, "x", id="what does not run is not asked"
        ),
        pytest.param(
            {
                "setup": service(ports=["80:80"]),
                "web": service(depends_on={"setup": {"condition": "service_completed_successfully"}}),
            },
            "web",
            id="a job",
        ),
    ],
)
def test_the_service(read: Read, services: dict[str, Any], chosen: str | None) -> None:
    found = web_service.clear(web_service.candidates(read(services), "stack"))
    assert (found.service if found else None) == chosen


def test_a_tool_is_likelier_than_what_no_browser_shows(read: Read) -> None:
    services = {
        "elasticsearch": service("elasticsearch:8.15.0", ports=["9200:9200"]),
        "logstash": service("logstash:8.15.0", ports=["5000:5000", "9600:9600"], depends_on=["elasticsearch"]),
        "kibana": service("kibana:8.15.0", ports=["5601:5601"], depends_on=["elasticsearch"]),
    }
    found = web_service.candidates(read(services), "app")
    assert found[0].service == "kibana"
    assert web_service.clear(found) is None


def test_reasons_are_those_of_the_weight(read: Read) -> None:
    services = {"web": service(ports=["8080:3000"]), "db": service(POSTGRES)}
    first, second = web_service.candidates(read(services), "stack")
    assert first.reasons == ("publishes 3000", "is called web", "no other service waits for it")
    assert second.reasons == ("its image works for other services", "is called db, as what works behind the web's")
    assert first.weight > 0 > second.weight


def test_names_that_the_file_gives(read: Read) -> None:
    rule = "Host(`a.example.org`, `b.example.org`) || (Host(`c.example.org`) && PathPrefix(`/x`))"
    services = {
        "x": service(
            labels={"traefik.http.routers.x.rule": rule, "caddy_0": "https://d.example.org e.example.org:8443"}
        )
    }
    [found] = web_service.candidates(read(services), "stack")
    assert found.hosts == ("a.example.org", "b.example.org", "c.example.org", "d.example.org", "e.example.org")


# ---- which port


@pytest.mark.parametrize(
    ("one", "port"),
    [
        (service(ports=["8080:3000"]), 3000),
        (service(ports=[{"target": 3000, "published": "80"}]), 3000),
        (service(ports=["80:3000", "9000:9000"]), 3000),
        (service(ports=["80:80", "443:443"]), 80),
        (service(ports=["8080:3000", "2222:22"]), 3000),
        (service(ports=["3000:3000", "9090:9090"]), None),
        (service(ports=["3000:3000", "9090:9090"], environment={"PORT": 9090}), 9090),
        (service(ports=["3000:3000"], labels={"traefik.http.services.x.loadbalancer.server.port": "4000"}), 4000),
        (service(environment=["VIRTUAL_PORT=8055", "PORT=1"]), 8055),
        (service(labels={"caddy": "x.example.org", "caddy.reverse_proxy": "{{upstreams 8088}}"}), 8088),
        (service(labels={"caddy": "x.example.org", "caddy.reverse_proxy": "{{upstreams}}"}), 80),
        (service(labels={"xyz.easyrunner.service.port": "7000"}, ports=["3000"]), 7000),
        (service(labels={"xyz.easyrunner.appContainerInternalPort": "7000"}, ports=["3000"]), 7000),
        (service(expose=["4000"]), 4000),
        (service("docker.io/library/ghost:5"), 2368),
        (service("docker.io/library/ghost:5", ports=["8080:9999"]), 9999),
        (service(environment={"HTTP_PORT": "${P:-5001}"}), 5001),
        (service(healthcheck={"test": ["CMD", "curl", "http://localhost:6000/up"]}), 6000),
        (service(command="serve --port 7777"), 7777),
        (service(command=["gunicorn", "-b", "0.0.0.0:8000"]), 8000),
        (service(command="run --since 12:30"), None),
        (service(environment={"PORT": "none"}), None),
        (service(environment={"PORT": "99999"}), None),
        (service(ports=["5432:5432"]), None),
        (service(), None),
    ],
)
def test_the_port(read: Read, one: dict[str, Any], port: int | None) -> None:
    [found] = web_service.candidates(read({"x": one}), "stack")
    assert found.port.number == port


# ---- what is a secret


def secret_env(said: Survey) -> dict[str, dict[str, str]]:
    return secret_variables.propose(said).section


def db(**environment: str) -> dict[str, Any]:
    return service(POSTGRES, environment=environment)


@pytest.mark.parametrize(
    ("environment", "section"),
    [
        ({"SECRET_KEY": "${SECRET_KEY:?}"}, {"SECRET_KEY": ""}),
        ({"SECRET_KEY": "$KEY"}, {"SECRET_KEY": ""}),
        ({"SECRET_KEY": "changeme"}, {"SECRET_KEY": ""}),
        ({"SECRET_KEY": "${SECRET_KEY:-changeme}"}, {"SECRET_KEY": ""}),
        ({"SECRET_KEY": None}, {"SECRET_KEY": ""}),
        ({"AWS_SECRET_ACCESS_KEY": "abc", "PGPASSWORD": "abc"}, {"AWS_SECRET_ACCESS_KEY": "", "PGPASSWORD": ""}),
        ({"database__connection__password": "abc"}, {"database__connection__password": ""}),
        ({"SECRET_KEY": "${SECRET_KEY:-}"}, {}),
        ({"SECRET_KEY": ""}, {}),
        ({"ALLOW_EMPTY_PASSWORD": "yes", "ENABLE_PASSWORD": "on"}, {}),
        ({"DB_PASSWORD_FILE": "/run/secrets/db"}, {}),
        ({"DB_PASSWORD": "/run/secrets/db"}, {}),
        ({"LEVEL": "${LEVEL}", "KEY": "abc"}, {}),
        ({"URL": "https://x:${P}@h.example.org/a{b}"}, {"URL": "https://x:{p}@h.example.org/a{{b}}"}),
        ({"URL": "redis://:${P:-abc}@cache:6379/0?x=$NONE"}, {"URL": "redis://:{p}@cache:6379/0?x="}),
        ({"URL": "redis://:abc@cache"}, {"URL": "redis://:{cache_password}@cache"}),
        ({"URL": "redis://cache:6379"}, {}),
        ({"ARGS": "--x=${API_TOKEN}"}, {"ARGS": "--x={api_token}"}),
        ({"A": "x${P_TOKEN}", "P_TOKEN": "${P_TOKEN}"}, {"A": "x{p_token}", "P_TOKEN": "p_token"}),
        ({"SECRET": "line\nline"}, {"SECRET": ""}),
        ({"URL": "redis://:${P}@cache\nmore"}, {}),
        ({"bad name": "${SECRET_KEY}"}, {}),
    ],
)
def test_secrets_of_one_service(read: Read, environment: dict[str, str], section: dict[str, str]) -> None:
    assert secret_env(read({"web": service(environment=environment)})) == ({"web": section} if section else {})


@pytest.mark.parametrize("over", [None, ["B_TOKEN=${B_TOKEN:?}"], {"B_TOKEN": "${B_TOKEN:?}"}])
def test_a_list_says_the_same_as_a_mapping(tmp_path: Path, over: Any) -> None:
    """Also with a variable that is required and not set, and laid over by another file."""
    written = ["SECRET_KEY=${SECRET_KEY:?not set}", "A_TOKEN", "URL=redis://:${P:?}@cache", "${NAME}=x", "LEVEL=1"]
    files = [tmp_path / "a.yaml", *([tmp_path / "b.yaml"] if over else [])]
    for path, environment in zip(files, (written, over), strict=False):
        path.write_text(yaml.safe_dump({"services": {"web": service(environment=environment)}}))
    said = survey(files, Report())
    assert said is not None
    more = {"B_TOKEN": ""} if over else {}
    assert secret_env(said) == {"web": {"SECRET_KEY": "", "A_TOKEN": "", "URL": "redis://:{p}@cache", **more}}


def test_one_variable_at_several_places_is_one_secret(read: Read) -> None:
    services = {
        "web": service(environment=["DATABASE_URL=postgres://app:${PG_PASS}@db/app", "SECRET_KEY=${SECRET_KEY}"]),
        "worker": service(environment={"PGPASSWORD": "${PG_PASS}", "SECRET_KEY": None}),
        "db": db(POSTGRES_PASSWORD="${PG_PASS:?}"),
    }
    assert secret_env(read(services)) == {
        "web": {"DATABASE_URL": "postgres://app:{pg_pass}@db/app", "SECRET_KEY": "secret_key"},
        "worker": {"PGPASSWORD": "pg_pass", "SECRET_KEY": "secret_key"},
        "db": {"POSTGRES_PASSWORD": "pg_pass"},
    }


@pytest.mark.parametrize(
    ("app", "database", "joined"),
    [
        ({"DB_PASSWORD": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, True),
        ({"DB_HOST": "db", "DB_PASS": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, True),
        ({"DB_HOST": "elsewhere.example.org", "DB_PASSWORD": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, False),
        ({"DB_PASSWORD": "same"}, {"POSTGRES_PASSWORD": "same"}, True),
        ({"DB_PASSWORD": "one"}, {"POSTGRES_PASSWORD": "other"}, False),
        ({"URL": "postgres://u:${A}@db:5432/x"}, {"POSTGRES_PASSWORD": "${B}"}, True),
        ({"URL": "postgres://u:${A}@db.example.org/x"}, {"POSTGRES_PASSWORD": "${B}"}, False),
        ({"ADMIN_PASSWORD": "same"}, {"POSTGRES_PASSWORD": "same"}, False),
        ({"DATABASE_ENCRYPTION_KEY": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, False),
        ({"URL": "Server=db;User Id=u;Password=${A};Database=x"}, {"POSTGRES_PASSWORD": "${B}"}, True),
        ({"URL": "Server=other;User Id=u;Password=${A}"}, {"POSTGRES_PASSWORD": "${B}"}, False),
        ({"MYSQL_PASSWORD": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, False),
        ({"SMTP_PASSWORD": "${A}"}, {"POSTGRES_PASSWORD": "${B}"}, False),
    ],
)
def test_a_database_and_who_connects_have_one_password(
    read: Read, app: dict[str, str], database: dict[str, str], joined: bool
) -> None:
    found = secret_variables.propose(read({"web": service(environment=app), "db": db(**database)}))
    shared = [secret for secret in found.secrets if {name for name, _ in secret.uses} == {"web", "db"}]
    assert (len(shared), len(found.secrets)) == ((1, 1) if joined else (0, 2))


def test_a_database_that_reads_a_file_has_one_password_with_who_connects(tmp_path: Path) -> None:
    database = db(POSTGRES_PASSWORD_FILE="/run/secrets/pw") | {"secrets": [{"source": "pg", "target": "pw"}]}
    url = "postgres://u:${P:?}@db/x"
    data = {
        "services": {"web": service(environment={"URL": url}), "db": database},
        "secrets": {"pg": {"external": True}},
    }
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(data))
    said = survey([tmp_path / "compose.yaml"], Report())
    assert said is not None
    found = secret_variables.propose(said)
    assert found.section == {"web": {"URL": "postgres://u:{pg}@db/x"}}
    assert [*secret_variables.declared(said, {secret.name for secret in found.secrets})] == []


def test_two_databases_of_a_kind_are_told_apart_by_the_host_alone(read: Read) -> None:
    services = {
        "a": service(environment={"DB_PASSWORD": "${A}"}),
        "b": service(environment={"DB_HOST": "two:5432", "DB_PASSWORD": "${B}"}),
        "one": db(POSTGRES_PASSWORD="${ONE}"),
        "two": db(POSTGRES_PASSWORD="${TWO}"),
    }
    uses = [{name for name, _ in secret.uses} for secret in secret_variables.propose(read(services)).secrets]
    assert uses == [{"a"}, {"b", "two"}, {"one"}]


def test_the_password_of_root_is_for_root(read: Read) -> None:
    mysql = service("mysql:8", environment={"MYSQL_ROOT_PASSWORD": "${ROOT}", "MYSQL_PASSWORD": "${APP}"})
    services = {
        "web": service(environment={"DB_USER": "app", "DB_PASSWORD": "${X}"}),
        "backup": service(environment={"URL": "mysql://root:${Y}@db/x"}),
        "db": mysql,
    }
    uses = [{name for _, name in secret.uses} for secret in secret_variables.propose(read(services)).secrets]
    assert uses == [{"DB_PASSWORD", "MYSQL_PASSWORD"}, {"URL", "MYSQL_ROOT_PASSWORD"}]


@pytest.mark.parametrize(
    ("app", "joined"),
    [
        ({"S3_ENDPOINT": "http://minio:9000", "AWS_SECRET_ACCESS_KEY": "${A}"}, True),
        ({"S3_ENDPOINT": "https://s3.example.org", "AWS_SECRET_ACCESS_KEY": "${A}"}, False),
        ({"OBJECT_STORAGE_SECRET_ACCESS_KEY": "the-same-value"}, True),
    ],
)
def test_the_key_of_a_store_is_the_stores_own(read: Read, app: dict[str, str], joined: bool) -> None:
    value = "the-same-value" if "the-same-value" in app.values() else "${ROOT}"
    services = {
        "web": service(environment=app),
        "minio": service("minio/minio:1", environment={"MINIO_ROOT_PASSWORD": value}),
    }
    found = secret_variables.propose(read(services)).secrets
    assert (len(found), found[0].by_hand) == ((1, False) if joined else (2, True))


def test_a_password_that_nobody_else_names_may_be_built_in(read: Read) -> None:
    services = {"web": service(), "db": db(POSTGRES_PASSWORD="postgres")}
    [found] = secret_variables.propose(read(services)).secrets
    assert (found.by_hand, "built in" in found.sources[0]) == (True, True)
    [alone] = secret_variables.propose(read({"db": db(POSTGRES_PASSWORD="postgres")})).secrets
    assert not alone.by_hand


def test_what_is_empty_in_a_text_of_secrets_is_said(read: Read) -> None:
    services = {"web": service(environment={"URL": "postgres://${DB_USER}:${P}@db/${DB_NAME:-x}"})}
    found = secret_variables.propose(read(services))
    assert found.section == {"web": {"URL": "postgres://:{p}@db/x"}}
    assert "in which DB_USER is empty" in found.kept[0]


def test_one_value_under_two_names_is_two_secrets(read: Read) -> None:
    services = {
        "a": service(environment={"SECRET_KEY": "changeme", "ADMIN_TOKEN": "changeme"}),
        "b": service(environment={"SECRET_KEY": "changeme"}),
    }
    assert secret_env(read(services)) == {
        "a": {"SECRET_KEY": "secret_key", "ADMIN_TOKEN": ""},
        "b": {"SECRET_KEY": "secret_key"},
    }


def test_two_values_under_one_name_are_two_secrets(read: Read) -> None:
    services = {name: service(environment={"SECRET_KEY": f"{name}-value"}) for name in ("a", "b")}
    assert secret_env(read(services)) == {"a": {"SECRET_KEY": ""}, "b": {"SECRET_KEY": ""}}


@pytest.mark.parametrize(
    "more",
    [
        {"command": "serve --requirepass ${P}"},
        {"command": ["serve", "--password", "abcdef"]},
        {"healthcheck": {"test": ["CMD-SHELL", "ping -pabcdef"]}},
        {"entrypoint": "sh -c 'x --auth redis://:abcdef@x'"},
    ],
)
def test_what_a_command_needs_as_well_is_no_secret(read: Read, more: dict[str, Any]) -> None:
    services = {"web": service(environment={"P_SECRET": "${P:-abcdef}"}), "x": service(**more)}
    found = secret_variables.propose(read(services))
    assert (found.section, len(found.kept)) == ({}, 1)


def test_a_user_of_the_same_name_in_a_health_check_is_no_password(read: Read) -> None:
    one = service(
        POSTGRES,
        environment={"POSTGRES_PASSWORD": "postgres"},
        healthcheck={"test": ["CMD", "pg_isready", "-U", "postgres"]},
    )
    assert secret_env(read({"db": one})) == {"db": {"POSTGRES_PASSWORD": ""}}


def test_values_in_dotenv_are_secrets_too(read: Read) -> None:
    services = {"web": service(environment={"SECRET_KEY": "${K}", "LEVEL": "${LEVEL}"})}
    found = secret_variables.propose(read(services, env="K=abc\nLEVEL=info\n"))
    assert found.section == {"web": {"SECRET_KEY": ""}}
    assert "abc" not in repr(found)
    empty = secret_variables.propose(read(services, env="K=\n"))
    assert empty.section == {}, "an empty value is somebody's choice"


def test_what_others_give_out_is_set_by_hand(read: Read) -> None:
    environment = {"SMTP_PASSWORD": None, "SECRET_KEY": None, "APP_KEY": "base64:abcd", "STRIPE_API_KEY": "x1"}
    found = secret_variables.propose(read({"web": service(environment=environment)}))
    assert {secret.name: secret.by_hand for secret in found.secrets} == {
        "web-SMTP_PASSWORD": True,
        "web-SECRET_KEY": False,
        "web-APP_KEY": True,
        "web-STRIPE_API_KEY": True,
    }


def test_the_password_of_a_host_outside_is_set_by_hand(read: Read) -> None:
    """A random one would be refused there; of a service of the stack it would do."""
    environment = {
        "DATABASE_URL": "postgres://app:pw1@db.example.net/app",
        "REDIS_HOST": "cache.example.net",
        "REDIS_PASSWORD": "pw2",
        "QUEUE_URL": "amqp://app:pw3@queue/app",
    }
    services = {"web": service(environment=environment), "queue": service("rabbitmq:4")}
    found = secret_variables.propose(read(services)).secrets
    assert {one.uses[0][1]: (one.by_hand, one.sources) for one in found} == {
        "DATABASE_URL": (True, ("what db.example.net outside of the stack has",)),
        "REDIS_PASSWORD": (True, ("what cache.example.net outside of the stack has",)),
        "QUEUE_URL": (False, ("a value in the file, which is best set anew",)),
    }


def test_names_of_secrets_do_not_meet(read: Read) -> None:
    services = {
        "a": service(environment=["X=--a${DB_TOKEN} ${db_token}", "Y=redis://:one@db", "Z=redis://:two@db"]),
    }
    found = secret_variables.propose(read(services))
    names = [secret.name for secret in found.secrets]
    assert names == ["db_token", "db_token_2", "db_password", "db_password_2"]


def test_the_name_of_the_stack_is_filled_in(tmp_path: Path) -> None:
    url = "postgres://${COMPOSE_PROJECT_NAME}:${P}@db/x"
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump({"services": {"web": service(environment={"URL": url})}}))
    said = survey([tmp_path / "compose.yaml"], Report(), "shop")
    assert said is not None
    assert secret_env(said) == {"web": {"URL": "postgres://shop:{p}@db/x"}}


# ---- what is asked for


@pytest.mark.parametrize(
    ("given", "stacks", "parsed"),
    [
        ("a.example.org", False, (None, None, None)),
        ("a.example.org=web", False, (None, "web", None)),
        ("a.example.org=web:80", False, (None, "web", 80)),
        ("a.example.org=blog/web:80", False, ("blog", "web", 80)),
        ("a.example.org=blog", True, ("blog", None, None)),
        ("a.example.org=blog:8080", True, ("blog", None, 8080)),
        ("a.example.org=blog/web.x_y-z", True, ("blog", "web.x_y-z", None)),
    ],
)
def test_a_domain_is_read(given: str, stacks: bool, parsed: tuple[str | None, str | None, int | None]) -> None:
    one = request.parse(given, stacks=stacks)
    assert (one.domain, one.stack, one.service, one.port) == ("a.example.org", *parsed)


@pytest.mark.parametrize(
    "given",
    [
        "", "=web", "a.example.org=", "a.example.org=:80", "a.example.org=web:", "a.example.org=web:0",
        "a.example.org=web:65536", "a.example.org=web:٨٠", "a.example.org=/web", "a.example.org=blog/",
        "*.example.org",
        "https://a.example.org", "A.example.org", "bücher.example.org", "localhost", "192.0.2.1", "a.example.org:80",
        "a.example.org\n",
    ],
)  # fmt: skip
def test_a_wrong_domain_says_what_is_wrong(given: str) -> None:
    with pytest.raises(UserError) as error:
        request.parse(given, stacks=False)
    assert error.value.hint
    assert given in error.value.message


def app_of(said: Survey, name: str = "app") -> App:
    return App(name, StackFiles((Path("compose.yaml"),)), said)


def resolved(apps: list[App], *domains: str) -> list[Request | Question]:
    return questions.resolve(apps, [request.parse(one, stacks=len(apps) > 1) for one in domains])


def test_a_domain_goes_where_the_file_says(read: Read) -> None:
    rule = "traefik.http.routers.x.rule"
    services = {
        name: service(labels={rule: f"Host(`{name}.example.org`)"}, expose=["3000"]) for name in ("shop", "admin")
    }
    found = resolved([app_of(read(services))], "admin.example.org", "shop.example.org")
    assert [one.service for one in found if isinstance(one, Request)] == ["admin", "shop"]
    [question] = resolved([app_of(read(services))], "other.example.org")
    assert isinstance(question, Question)
    assert [choice.option for choice in question.choices] == [
        "--domain other.example.org=shop:3000",
        "--domain other.example.org=admin:3000",
    ]


_RULE = "traefik.http.routers.x.rule"


def test_services_that_share_a_domain_have_their_paths(tmp_path: Path, read: Read) -> None:
    """As the labels for Traefik, or the variables for nginx-proxy, have it; the one without a path has the rest."""
    below = "Host(`a.example.org`) && (PathPrefix(`/api`) || PathPrefix(`/v2/`))"
    strip = {"traefik.http.middlewares.s.stripprefix.prefixes": "/api"}
    services = {
        "api": service(labels={_RULE: below, **strip}, expose=["4000"]),
        "front": service(labels={_RULE: "Host(`a.example.org`) && !PathPrefix(`/api`)"}, expose=["3000"]),
        "files": service(
            environment={"VIRTUAL_HOST": "a.example.org", "VIRTUAL_PATH": "/files/", "VIRTUAL_PORT": "5000"}
        ),
        "other": service(labels={_RULE: "Host(`o.example.org`)"}, expose=["7000"]),
    }
    apps = [App("app", StackFiles((tmp_path / "compose.yaml",)), read(services))]
    [found] = plan.plans(apps, [one for one in resolved(apps, "a.example.org") if isinstance(one, Request)])
    assert {one.service: one.written for one in found.public} == {
        "api": {"domains": ["a.example.org"], "path": ["/api", "/v2"], "strip_path": True, "port": 4000},
        "front": {"domains": ["a.example.org"], "port": 3000},
        "files": {"domains": ["a.example.org"], "path": "/files", "port": 5000},
    }
    assert [note for note in found.notes if "o.example.org" in note] == [
        "other is o.example.org for a proxy before it; --domain o.example.org=other:7000 makes it public"
    ]
    specs.loads(spec_file.text([found], tmp_path, None, specs.placeholder_key()), tmp_path / "easyrunner.yaml")


def test_who_names_a_service_means_the_whole_domain(read: Read) -> None:
    below = "Host(`a.example.org`) && PathPrefix(`/api`)"
    apps = [app_of(read({"api": service(labels={_RULE: below}, expose=["4000"]), "other": OTHER}))]
    for domain, path in (("a.example.org", "/api"), ("a.example.org=api", None)):
        [found] = plan.plans(apps, [one for one in resolved(apps, domain) if isinstance(one, Request)])
        assert found.public[0].written.get("path") == path


def test_a_choice_has_the_domain_that_the_file_gives_it(read: Read) -> None:
    services = {
        name: service(labels={_RULE: f"Host(`{name}.example.org`)"}, expose=["3000"]) for name in ("shop", "admin")
    }
    [question] = resolved([app_of(read(services))])
    assert isinstance(question, Question)
    assert [choice.option for choice in question.choices] == [
        "--domain shop.example.org=shop:3000",
        "--domain admin.example.org=admin:3000",
    ]
    services = {name: service(labels={_RULE: "Host(`a.example.org`)"}, expose=["3000"]) for name in ("shop", "admin")}
    [question] = resolved([app_of(read({**services, "web": OTHER}))], "a.example.org")
    assert isinstance(question, Question)
    assert [choice.label for choice in question.choices] == ["shop", "admin"]


def test_a_service_has_one_port(read: Read) -> None:
    apps = [app_of(read({"web": service()}))]
    with pytest.raises(UserError, match="81 and 82"):
        resolved(apps, "a.example.org=web:81", "b.example.org=web:82")
    both = resolved(apps, "a.example.org=web:81", "b.example.org=web:81")
    [found] = plan.plans(apps, [one for one in both if isinstance(one, Request)])
    assert found.public[0].written == {"domains": ["a.example.org", "b.example.org"], "port": 81}


def test_the_domain_of_a_label_is_not_said_twice(read: Read) -> None:
    labels = {"xyz.easyrunner.service.domain": "a.example.org", "xyz.easyrunner.service.port": "3000"}
    apps = [app_of(read({"web": service(labels=labels)}))]
    assert resolved(apps) == []
    [found] = plan.plans(apps, [one for one in resolved(apps, "a.example.org") if isinstance(one, Request)])
    assert found.public[0].written == {}
    for wrong in ("b.example.org", "a.example.org=web:3001"):
        with pytest.raises(UserError, match="by its label"):
            resolved(apps, wrong)


def test_stacks_that_look_public_want_a_domain(read: Read) -> None:
    web, bot = app_of(read({"web": service(ports=["80:80"])}), "shop"), app_of(read({"bot": service()}), "bot")
    [question] = resolved([web, bot])
    assert isinstance(question, Question)
    assert (question.kind, question.ways) == (
        "domain",
        ("--domain NAME=shop/web:80   # publishes 80; is called web",),
    )
    [question] = resolved([web, bot], "a.example.org")[:1]
    assert isinstance(question, Question)
    assert [choice.label for choice in question.choices] == ["shop", "bot"]


@pytest.mark.parametrize(("text", "service_name"), [("", "one"), ("1", "one"), ("2", "two"), ("two", "two")])
def test_answers(read: Read, text: str, service_name: str) -> None:
    services = {"one": service(ports=["8080"]), "two": service(ports=["3000"])}
    [question] = resolved([app_of(read(services))], "a.example.org")
    assert isinstance(question, Question)
    answer = questions.answered(question, text)
    assert isinstance(answer, Request)
    assert answer.service == service_name
    assert isinstance(questions.answered(question, "3"), str)
    assert isinstance(questions.answered(question, "x"), str)


# ---- names and files


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blog", "blog"), ("My Blog!", "my-blog"), ("Größe", "groe"), ("日本", "app"), ("", "app"), ("1x", "app-1x"),
        ("proxy", "proxy-app"), ("a" * 40, "a" * 24), ("x\n\x1b[31my", "x-31my"), ("-", "app"), ("..", "app"),
    ],
)  # fmt: skip
def test_the_name_of_a_stack(text: str, name: str) -> None:
    assert compose_files.valid_name(text) == name


def test_no_two_stacks_have_one_name(tmp_path: Path) -> None:
    files = StackFiles((tmp_path / "compose.yaml",))
    long = "a" * 30
    names = compose_files.stack_names([("x", files), ("x", files), ("X", files), (long, files), (long, files)])
    assert names == ("x", "x-2", "x-3", "a" * 24, f"{'a' * 22}-2")


def test_stacks_whose_names_give_one_uid_get_others(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    said = read({"web": service()})
    monkeypatch.setattr(user, "uid", lambda _name: 30_000)
    found = plan.plans([app_of(said, "a"), app_of(said, "b"), app_of(said, "c")], [])
    assert [plan.uid for plan in found] == [None, 30_001, 30_002]


def test_what_compose_means(tmp_path: Path) -> None:
    for name in (
        "a/compose.yaml",
        "a/compose.override.yml",
        "a/compose.prod.yaml",
        "b/docker-compose.yml",
        "c/x",
        ".d/y",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("services: {x: {image: y}}")
    a, b = compose_files.find([tmp_path])
    assert [path.name for path in a.all] == ["compose.yaml", "compose.override.yml"]
    assert (a.beside, b.files) == (("compose.prod.yaml",), (tmp_path / "b/docker-compose.yml",))
    [one] = compose_files.find([tmp_path / "a/compose.yaml", tmp_path / "a/compose.prod.yaml"])
    assert (len(one.files), one.override, one.beside) == (2, None, ("compose.override.yml",))
    (tmp_path / "compose.yaml").touch()
    [own] = compose_files.find([tmp_path])
    assert own.files == (tmp_path / "compose.yaml",)
    assert "what is in its directories is not looked at" in own.notes[0]
    for wrong in ([tmp_path / "none"], [tmp_path / "c"], [tmp_path, tmp_path / "compose.yaml"]):
        with pytest.raises(UserError):
            compose_files.find(wrong)


# ---- the file

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "yes", "n", "0o14", "1_000", "12:30", "1e3", "2024-01-01", "~", "null", "- x", "a: b", "#", "'"]
    ),
)


FLAT = TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, TEXTS, max_size=3)
NESTED = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(TEXTS, FLAT, max_size=3)


@given(NESTED)
def test_any_text_is_read_as_it_was(value: Any) -> None:
    """By the reader of specs, which refuses what readers of YAML do not agree on."""
    value = without_unencodable({"x": value})
    report = Report()
    read_back = source.parse(spec_file.as_yaml(value), Path("x.yaml"), report, dialect="spec")
    assert [problem.message for problem in report] == []
    assert read_back is not None
    assert read_back.data == value


def without_unencodable(value: Any) -> Any:
    """Lone surrogates are in no file, so in no value either."""
    if isinstance(value, dict):
        return {without_unencodable(key): without_unencodable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_unencodable(one) for one in value]
    return value.encode("utf-8", "ignore").decode() if isinstance(value, str) else value


NAMES = st.sampled_from(["web", "db", "no", "a b", "1", "x\ny", "ü", "-", "web.1", "'"])
VALUES = st.one_of(
    st.none(),
    st.integers(),
    TEXTS,
    st.lists(
        st.sampled_from(
            ["${P}", "$P", "${P:-x}", "${P:?}", "${", "$$", "://u:", "@db/", "?password=", ";", "{", "}", "\n", "é"]
        ),
        max_size=6,
    ).map("".join),
)
VARIABLES = st.dictionaries(
    st.sampled_from(["SECRET_KEY", "DB_PASSWORD", "URL", "A B", "", "PORT", "VIRTUAL_HOST"]), VALUES
)
SERVICES = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {"image": st.sampled_from(["x/y:1", POSTGRES, "${IMAGE}", "", "A B"])},
        optional={
            "environment": VARIABLES,
            "command": VALUES,
            "ports": st.lists(st.sampled_from(["80", "8080:80", "1:2:3:4", "${P}:80", 80, "53/udp", None]), max_size=3),
            "labels": st.dictionaries(st.sampled_from(["caddy", "caddy.reverse_proxy", "traefik.enable", ""]), VALUES),
            "depends_on": st.lists(NAMES, max_size=2),
        },
    ),
    min_size=1,
    max_size=3,
)


@given(SERVICES)
def test_whatever_a_file_says_a_spec_comes_of_it(services: dict[str, Any]) -> None:
    """It is YAML that says the same again; what is wrong with the file, `er check` finds."""
    with TemporaryDirectory() as name:
        place = Path(name)
        data = without_unencodable({"services": services})
        (place / "compose.yaml").write_text(yaml.safe_dump(data, allow_unicode=False), encoding="utf-8")
        said = survey([place / "compose.yaml"], Report())
        if said is None:
            return
        apps = [App("app", StackFiles((place / "compose.yaml",)), said)]
        one = apps[0].candidates[0].service if apps[0].candidates else said.services[0].name
        plans = plan.plans(apps, [Request("a.example.org", "", "app", one, 8080)])
        text = spec_file.text(plans, place, None, specs.placeholder_key())
        report = Report()
        assert source.parse(text, place / "x.yaml", report, dialect="spec") is not None
        assert [*report] == []
        with suppress(SpecError):
            specs.loads(text, place / "x.yaml")
