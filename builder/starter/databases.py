"""Whose password it is: the database, queue or store of a stack that a variable, or a URL, is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.compose.environment import names_secret
from builder.oci import image_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.compose.survey import ServiceFacts, Survey

# By the words of their images, and of the variables that are for them.
_FAMILIES: Final = {
    "sql": ("postgres postgresql pgvector postgis timescaledb mysql mariadb percona", "DB DATABASE SQL"),
    "postgres": ("postgres postgresql pgvector postgis timescaledb", "POSTGRES POSTGRESQL PG PGPASSWORD PGSQL"),
    "mysql": ("mysql mariadb percona", "MYSQL MARIADB"),
    "mongo": ("mongo mongodb", "MONGO MONGODB DB DATABASE"),
    "redis": ("redis valkey keydb", "REDIS VALKEY CACHE"),
    "rabbitmq": ("rabbitmq", "RABBITMQ AMQP"),
    "clickhouse": ("clickhouse", "CLICKHOUSE"),
    "minio": ("minio", "MINIO"),
    "search": ("elasticsearch opensearch meilisearch typesense", "ELASTIC ELASTICSEARCH OPENSEARCH MEILI MEILISEARCH"),
}


def family(image: str | None) -> set[str]:
    """The kinds of database that an image is of; none for any other image."""
    words = set(re.split(r"[^a-z0-9]+", image_reference.split(image or "").path.rpartition("/")[2]))
    return {name for name, (images, _) in _FAMILIES.items() if words & {*images.split()}}


_PASSWORD: Final = re.compile(r"_*(PASSWORD|PASSWD|PASS|PWD)$", re.IGNORECASE)
_STORE_KEY: Final = re.compile(r"(^|_)(S3|AWS|MINIO|STORAGE)_.*KEY$", re.IGNORECASE)


def of_host(host: str, survey: Survey) -> str:
    """The service that is called so in the stack; empty for none."""
    return {name: one.name for one in survey.services for name in one.names}.get(host, "")


def of_variable(variable: str, service: ServiceFacts, survey: Survey) -> str:
    """The service whose password a variable is, by the host beside it, else by its name; empty where it is unclear."""
    if is_store_key(variable):
        stores = [one for one in survey.services if "minio" in family(one.image) and _names_host(service, one.name)]
        return stores[0].name if len(stores) == 1 else ""
    if not _PASSWORD.search(variable):
        return ""
    if host := host_beside(variable, service):
        return of_host(host, survey)
    words = set(re.split(r"[^A-Z0-9]+", variable.upper()))
    families = {name for name, (_, named) in _FAMILIES.items() if words & {*named.split()}}
    fitting = [one.name for one in survey.services if family(one.image) & families]
    return fitting[0] if len(fitting) == 1 else ""


def host_beside(variable: str, service: ServiceFacts) -> str:
    """The host that the password in a variable is for, as far as one beside it says."""
    stem = _PASSWORD.sub("", variable)
    endings = ("_HOST", "_HOSTNAME", "_SERVER", "_ADDRESS", "HOST", "__host", "_host")
    named = (service.settings.get(f"{stem}{ending}") for ending in endings)
    return next((setting.value.partition(":")[0] for setting in named if setting is not None and setting.value), "")


def _names_host(service: ServiceFacts, host: str) -> bool:
    """Whether a variable of the service is an address of this host."""
    address = re.compile(rf"(?:^|//){re.escape(host)}(?:[:/]|$)")
    return any(address.search(setting.value or "") for setting in service.settings.values())


def is_store_key(variable: str) -> bool:
    """Whether a variable is the key of a store such as S3 has it."""
    return _STORE_KEY.search(variable) is not None


def user_of(variable: str, service: ServiceFacts) -> str:
    """The user that the password in a variable is for, as far as one beside it says."""
    stem = _PASSWORD.sub("", variable)
    named = (service.settings.get(f"{stem}{ending}") for ending in ("_USER", "_USERNAME", "USER"))
    return next((setting.value for setting in named if setting is not None and setting.value), "")


_OF_ROOT: Final = re.compile(r"(MYSQL|MARIADB)_ROOT_PASSWORD", re.IGNORECASE)


def is_for_user(variable: str, user: str) -> bool:
    """Whether a database's own variable has the password of this user: MySQL's root has one of its own."""
    return (_OF_ROOT.fullmatch(variable) is not None) == (user == "root")


def passwords_in_files(survey: Survey) -> Iterator[tuple[str, str, str]]:
    """Databases that read their password from a file below /run/secrets: service, variable, and the secret's name."""
    secrets = {
        (service.name, f"/run/secrets/{secret.target or secret.name}"): secret.name
        for service in survey.contents.services
        for secret in service.secrets
    }
    for service in survey.services:
        for variable, setting in service.settings.items() if family(service.image) else ():
            plain = variable.removesuffix("_FILE")
            secret = secrets.get((service.name, setting.value or ""))
            if secret is not None and plain != variable and names_secret(plain):
                yield service.name, plain, secret
