"""What is known of well-known images by name.

Capabilities they need, code they load from /tmp, where they write, memory they want, and where they listen.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.oci import image_reference

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Linux capabilities, without CAP_.
LINUX_CAPABILITIES: Final = tuple(
    """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG
    SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
    SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)

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


# What writes files that cannot be copied whole while it runs, and has no row in remote/backup/dumps.py: databases with
# tools or accounts of their own, and apps that are known for SQLite.
_TORN: Final = dict.fromkeys(
    (
        *("mongo", "clickhouse", "clickhouse/clickhouse-server", "couchdb", "influxdb", "cassandra", "neo4j"),
        *("scylladb/scylla", "mssql/server", "elasticsearch", "elasticsearch/elasticsearch", "rabbitmq", "surrealdb"),
        *("opensearchproject/opensearch", "getmeili/meilisearch", "etcd", "cockroachdb/cockroach", "prom/prometheus"),
        *("bitnami/postgresql", "bitnami/mariadb", "bitnami/mysql", "bitnami/mongodb", "supabase/postgres"),
        *("vaultwarden/server", "louislam/uptime-kuma", "pocketbase/pocketbase", "actualbudget/actual-server"),
    ),
    True,
)


def is_torn(image: str) -> bool:
    """Whether files of a well-known image do not fit together when they are copied while it runs."""
    return image_reference.known(image, _TORN) or False


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


# Where well-known images listen, by the end of their path: what their Dockerfiles EXPOSE, or their projects name.
_WEB_PORTS: Final = {
    "activepieces/activepieces": 80,
    "actualbudget/actual-server": 5006,
    "adminer": 8080,
    "apache/superset": 8088,
    "appsmith/appsmith-ce": 80,
    "authelia/authelia": 9091,
    "axllent/mailpit": 8025,
    "baserow/baserow": 80,
    "binwiederhier/ntfy": 80,
    "bitnami/nginx": 8080,
    "bitnami/wordpress": 8080,
    "calcom/cal.com": 3000,
    "casbin/casdoor": 8000,
    "coder/coder": 7080,
    "dgtlmoon/changedetection.io": 5000,
    "diced/zipline": 3000,
    "directus/directus": 8055,
    "docmost/docmost": 3000,
    "documenso/documenso": 3000,
    "docuseal/docuseal": 3000,
    "dolibarr/dolibarr": 80,
    "dpage/pgadmin4": 80,
    "drupal": 80,
    "emby/embyserver": 8096,
    "etherpad/etherpad": 9001,
    "excalidraw/excalidraw": 80,
    "filebrowser/filebrowser": 80,
    "fireflyiii/core": 8080,
    "forgejo/forgejo": 3000,
    "formbricks/formbricks": 3000,
    "freshrss/freshrss": 80,
    "getfider/fider": 3000,
    "ghost": 2368,
    "gitea": 3000,
    "gitea/gitea": 3000,
    "gitlab/gitlab-ce": 80,
    "go-vikunja/vikunja": 3456,
    "goauthentik/server": 9000,
    "gotify/server": 80,
    "grafana/grafana": 3000,
    "grafana/grafana-enterprise": 3000,
    "grafana/grafana-oss": 3000,
    "gristlabs/grist": 8484,
    "hedgedoc/hedgedoc": 3000,
    "home-assistant/home-assistant": 8123,
    "homeassistant/home-assistant": 8123,
    "httpd": 80,
    "immich-app/immich-server": 2283,
    "infisical/infisical": 8080,
    "jellyfin/jellyfin": 8096,
    "jenkins/jenkins": 8080,
    "jgraph/drawio": 8080,
    "joomla": 80,
    "karakeep-app/karakeep": 3000,
    "kestra/kestra": 8080,
    "keycloak/keycloak": 8080,
    "kimai/kimai2": 8001,
    "kutt/kutt": 3000,
    "langfuse/langfuse": 3000,
    "linuxserver/calibre-web": 8083,
    "linuxserver/qbittorrent": 8080,
    "linuxserver/syncthing": 8384,
    "listmonk/listmonk": 9000,
    "louislam/uptime-kuma": 3001,
    "lukevella/rallly": 3000,
    "mastodon/mastodon": 3000,
    "mastodon/mastodon-streaming": 4000,
    "matomo": 80,
    "mattermost/focalboard": 8000,
    "mattermost/mattermost-team-edition": 8065,
    "mealie-recipes/mealie": 9000,
    "mediawiki": 80,
    "metabase/metabase": 3000,
    "miniflux/miniflux": 8080,
    "n8nio/n8n": 5678,
    "neosmemo/memos": 5230,
    "nextcloud": 80,
    "nginx": 80,
    "nginxinc/nginx-unprivileged": 8080,
    "nocodb/nocodb": 8080,
    "nodered/node-red": 1880,
    "odoo": 8069,
    "open-webui/open-webui": 8080,
    "outlinewiki/outline": 3000,
    "paperless-ngx/paperless-ngx": 8000,
    "penpotapp/frontend": 8080,
    "photoprism/photoprism": 2342,
    "phpmyadmin": 80,
    "phpmyadmin/phpmyadmin": 80,
    "plausible/community-edition": 8000,
    "pocket-id/pocket-id": 1411,
    "portainer/portainer-ce": 9000,
    "prestashop/prestashop": 80,
    "prom/prometheus": 9090,
    "pterodactyl/panel": 80,
    "redmine": 3000,
    "registry": 5000,
    "requarks/wiki": 3000,
    "rocket.chat": 3000,
    "rocketchat/rocket.chat": 3000,
    "roundcube/roundcubemail": 80,
    "searxng/searxng": 8080,
    "sissbruecker/linkding": 9090,
    "solr": 8983,
    "sonarqube": 9000,
    "sonatype/nexus3": 8081,
    "stirlingtools/stirling-pdf": 8080,
    "syncthing/syncthing": 8384,
    "tomcat": 8080,
    "traccar/traccar": 8082,
    "umami-software/umami": 3000,
    "vaultwarden/server": 80,
    "wallabag/wallabag": 80,
    "weblate/weblate": 8080,
    "wekanteam/wekan": 8080,
    "wordpress": 80,
    "yourls": 80,
}


def speaks_fastcgi(image: str | None) -> bool:
    """Whether it is a variant with PHP-FPM, for a web server beside it."""
    return "fpm" in (image or "")


def web_port(image: str | None) -> int | None:
    """Where a well-known image listens for HTTP; None for any other."""
    return None if speaks_fastcgi(image) else image_reference.known(image, _WEB_PORTS)
