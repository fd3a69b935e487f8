"""What is known of well-known images by name: capabilities they need, memory they want, code they load from /tmp."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.oci import image_reference

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Images that start as root and become a user of their own, by the end of their path, from whichever registry.
_OWNER: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")  # first it takes its data over
_SERVER: Final = ("CHOWN", "SETGID", "SETUID")
_CAPABILITIES: Final = {
    **dict.fromkeys(("postgres", "mariadb", "mysql", "mongo", "redis", "rabbitmq", "influxdb", "couchdb"), _OWNER),
    **dict.fromkeys(("valkey/valkey", "valkey", "pgvector/pgvector", "ankane/pgvector", "postgis/postgis"), _OWNER),
    **dict.fromkeys(("timescale/timescaledb", "timescale/timescaledb-ha", "immich-app/postgres"), _OWNER),
    **dict.fromkeys(("supabase/postgres", "tensorchord/pgvecto-rs", "clickhouse/clickhouse-server"), _OWNER),
    **dict.fromkeys(("nextcloud", "ghost", "gitea/gitea", "forgejo/forgejo", "gogs/gogs", "gitlab/gitlab-ce"), _OWNER),
    **dict.fromkeys(("paperless-ngx/paperless-ngx", "louislam/uptime-kuma"), _OWNER),
    **dict.fromkeys(("nginx", "httpd", "wordpress", "drupal", "joomla", "phpmyadmin", "matomo", "mediawiki"), _SERVER),
    **dict.fromkeys(("freshrss/freshrss", "snipe/snipe-it", "onlyoffice/documentserver", "redmine"), _SERVER),
}
_ALWAYS_ROOT: Final = "linuxserver"  # all of these start as root, with s6
_NEVER_ROOT: Final = re.compile(r"rootless|unprivileged|bitnami")
# Until 8.0 it became its user by chroot(1).
_OLD_ELASTICSEARCH: Final = re.compile(r"elasticsearch(?:-oss)?:[67]\.")
# What `standard` leaves to root in a container.
STANDARD: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")


def capabilities(image: str) -> tuple[str, ...]:
    """What an image needs to start when it starts as root; nothing for one that is not known."""
    if image_reference.is_archive(image) or _NEVER_ROOT.search(image):
        return ()
    if _OLD_ELASTICSEARCH.search(image):
        return ("SETGID", "SETUID", "SYS_CHROOT")
    path = image_reference.split(image).path.split("/")
    return image_reference.known(image, _CAPABILITIES) or (_OWNER if _ALWAYS_ROOT in path[:-1] else ())


def lacking(
    image: str, hardening: str, user: str | None, added: Collection[str], dropped: Collection[str]
) -> tuple[str, ...]:
    """Capabilities that an image needs to start and its service does not have; `user` as Compose writes it."""
    if hardening == "off" or (user or "root").partition(":")[0] not in ("root", "0"):
        return ()
    left = () if hardening == "strict" or "ALL" in dropped else tuple(set(STANDARD) - set(dropped))
    needed = capabilities(image)
    found = {*left, *added}
    # The others are needed where files have another owner; without these it cannot become its user at all.
    return needed if not found.issuperset(set(needed) & {"SETGID", "SETUID", "SYS_CHROOT"}) else ()


# Images that unpack native libraries into /tmp and load them from there: JNA and jffi of the JVM, SQLite's and Snappy's
# libraries. As reported or documented in elastic.co's executable-jna-tmpdir, jnr/jffi#46, Graylog2/documentation#365,
# metabase/metabase#8084, xerial/snappy-java#240, luben/zstd-jni#113.
_RUN_FROM_TMP: Final = dict.fromkeys(
    (
        *("elasticsearch", "elasticsearch/elasticsearch", "opensearchproject/opensearch"),
        *("logstash", "logstash/logstash", "graylog/graylog", "jenkins/jenkins", "metabase/metabase"),
        *("apache/kafka", "confluentinc/cp-kafka"),
    ),
    True,
)


def runs_from_tmp(image: str) -> bool:
    """Whether a well-known image loads code from /tmp."""
    return image_reference.known(image, _RUN_FROM_TMP) or False


# Where images write beside their volumes when they start; what is missing here may do so as well.
_SEARCH: Final = ("config", "logs")
_WRITTEN: Final = {
    **dict.fromkeys(
        ("elasticsearch", "elasticsearch/elasticsearch"), tuple(f"/usr/share/elasticsearch/{name}" for name in _SEARCH)
    ),
    "opensearchproject/opensearch": tuple(f"/usr/share/opensearch/{name}" for name in _SEARCH),
    "keycloak/keycloak": ("/opt/keycloak/data", "/opt/keycloak/lib/quarkus"),
    "nginx": ("/var/cache/nginx",),
    "httpd": ("/usr/local/apache2/logs",),
    "tomcat": tuple(f"/usr/local/tomcat/{name}" for name in ("logs", "temp", "work")),
}


def not_writable(image: str, hardening: str, mounted: Iterable[str]) -> tuple[str, ...]:
    """Where an image writes and cannot, as its root is read-only and nothing is mounted there or above."""
    paths = image_reference.known(image, _WRITTEN) or () if hardening == "strict" else ()
    return tuple(path for path in paths if not any(PurePosixPath(path).is_relative_to(one) for one in mounted))


class Wanted(NamedTuple):
    """Memory in MiB; with `once` for all services of a stack that have the image together."""

    mebibytes: int
    once: bool = False


# What their makers ask for, or what they take as soon as they have started: the heap that a JVM is given by default,
# and what is needed beside it. Where each number is from: docs/apps.md.
MEMORY: Final = {
    **dict.fromkeys(("elasticsearch", "elasticsearch/elasticsearch", "opensearchproject/opensearch"), Wanted(2048)),
    **dict.fromkeys(("kibana", "kibana/kibana", "opensearchproject/opensearch-dashboards"), Wanted(1024)),
    **dict.fromkeys(("logstash", "logstash/logstash", "graylog/graylog", "wazuh/wazuh-indexer"), Wanted(1536)),
    **dict.fromkeys(("apache/kafka", "bitnami/kafka", "confluentinc/cp-kafka"), Wanted(1280)),
    **dict.fromkeys(("gitlab/gitlab-ce", "gitlab/gitlab-ee"), Wanted(4096)),
    **dict.fromkeys(
        ("clickhouse/clickhouse-server", "clickhouse", "cassandra", "neo4j", "scylladb/scylla"), Wanted(2048)
    ),
    **dict.fromkeys(("atlassian/confluence", "atlassian/confluence-server", "atlassian/jira-software"), Wanted(2048)),
    **dict.fromkeys(("mattermost/mattermost-team-edition", "mattermost/mattermost-enterprise-edition"), Wanted(2048)),
    **dict.fromkeys(("immich-app/immich-server", "immich-app/immich-machine-learning"), Wanted(2048)),
    **dict.fromkeys(("jenkins/jenkins", "sonarqube", "onlyoffice/documentserver"), Wanted(2048)),
    **dict.fromkeys(("metabase/metabase", "matrixdotorg/synapse", "element-hq/synapse"), Wanted(1024)),
    **dict.fromkeys(("nextcloud", "mastodon/mastodon", "tootsuite/mastodon"), Wanted(512)),
    "apache/airflow": Wanted(4096, once=True),
    "getsentry/sentry": Wanted(12_288, once=True),
    "keycloak/keycloak": Wanted(1280),
    "milvusdb/milvus": Wanted(8192),
    "mssql/server": Wanted(2048),
    "ollama/ollama": Wanted(8192),
    "posthog/posthog": Wanted(4096, once=True),
    "sonatype/nexus3": Wanted(4096),
    "zammad/zammad": Wanted(2048, once=True),
}


# What is reckoned for each other service of a server: an app or a database that nobody would call heavy.
OTHER_MEBIBYTES: Final = 256


def memory(image: str) -> Wanted | None:
    """What a well-known heavy image wants; None for any other."""
    return image_reference.known(image, MEMORY)
