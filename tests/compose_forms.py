"""Every key of the Compose specification in every form that its schema has, and what becomes of each here.

docs/compose.md shows it as a table. Forms of one row say the same in Compose, and have to be the same here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import compose
from builder.problems import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.compose import StackContents

# What the forms may name. `front` is public, so that nothing is said about that.
_AROUND: Final = """
services:
  front:
    image: docker.io/library/caddy:2.11
    labels: {xyz.easyrunner.service.domain: app.example.org, xyz.easyrunner.service.port: "80"}
  db: {image: "docker.io/library/caddy:2.11", healthcheck: {test: [CMD, ok]}, volumes: ["data:/db"]}
{web}volumes: {data: }
networks: {inside: , default: }
secrets: {word: {external: true}}
configs: {file: {content: x}}
"""
_PULLED: Final = '  web: {image: "docker.io/library/caddy:2.11"}\n'
_FILES: Final = {
    "app.env": "A=1\n",
    "site.conf": "x\n",
    "labels": "a=b\n",
    "base.yaml": "services: {web: {init: true}}\n",
    "more.yaml": "services: {more: {image: docker.io/x/y:1}}\n",
    "changed.yaml": "services: {more: {init: true}}\n",
    "app/Dockerfile": "FROM scratch\n",
    "app/deploy/web.Dockerfile": "FROM scratch\n",
    "empty/README": "x\n",
}

Forms = tuple[str, ...]
# In the order of the alphabet: of services, each row the forms of one meaning.
SERVICE: Final[tuple[Forms, ...]] = (
    ("annotations: {a: b}", "annotations: [a=b]"),
    ("attach: false",),
    ("blkio_config: {weight: 300}",),
    ("build: ./app", "build: {context: ./app}", "build: {context: app, dockerfile: Dockerfile, network: default}"),
    ("build: {context: ./app, additional_contexts: {other: ./base}}",),
    ("build: {context: ./app, args: {A: b}}", "build: {context: ./app, args: [A=b]}"),
    ("build: {context: ./app, cache_from: [alpine]}", "build: {context: ./app, cache_to: [type=local]}"),
    ("build: {context: https://example.com/repo.git}",),
    ("build: {context: ./app, dockerfile: deploy/web.Dockerfile}",),
    ("build: {context: ./app, dockerfile_inline: FROM scratch}",),
    ("build: {context: ./app, entitlements: [security.insecure]}",),
    ("build: {context: ./app, extra_hosts: {a: 10.0.0.1}}", "build: {context: ./app, extra_hosts: ['a:10.0.0.1']}"),
    ("build: {context: ./app, isolation: hyperv}",),
    ("build: {context: ./app, labels: {a: b}}", "build: {context: ./app, labels: [a=b]}"),
    ("build: {context: ./app, network: none}",),
    ("build: {context: ./app, network: host}",),
    ("build: {context: ./app, no_cache: true}",),
    ("build: {context: ./app, platforms: [linux/amd64, linux/arm64]}", "build: {context: ./app, pull: true}"),
    ("build: {context: ./app, platforms: [linux/s390x]}",),
    ("build: {context: ./app, privileged: true}",),
    ("build: {context: ./app, provenance: true}", "build: {context: ./app, sbom: true}"),
    ("build: {context: ./app, secrets: [word]}",),
    ("build: {context: ./app, shm_size: 64m}", "build: {context: ./app, ulimits: {nproc: 65535}}"),
    ("build: {context: ./app, ssh: [default]}",),
    ("build: {context: ./app, tags: ['x/y:1']}",),
    ("build: {context: ./app, target: release}",),
    ("build: {context: ./empty}",),
    ("build: {context: ./app, x-max-age: 3d}",),
    ("cap_add: [NET_ADMIN]", "cap_add: [CAP_NET_ADMIN]", "cap_add: [net_admin]"),
    ("cap_add: [ALL]",),
    ("cap_drop: [CHOWN]",),
    ("cap_drop: [ALL]",),
    ("cgroup: private",),
    ("cgroup: host",),
    ("cgroup_parent: m-executor-abcd",),
    ('command: bundle exec thin -p "3000"', "command: [bundle, exec, thin, -p, '3000']"),
    ("command:",),
    ("configs: [file]", "configs: [{source: file}]", "configs: [{source: file, target: /file}]"),
    ("configs: [{source: file, uid: '1', gid: '1', mode: 0440}]",),
    ("container_name: other",),
    ("cpu_count: 2",),
    ("cpu_percent: 50",),
    ("cpu_period: 10000",),
    ("cpu_quota: 5000",),
    ("cpu_rt_period: 400ms",),
    ("cpu_rt_runtime: 200ms",),
    ("cpu_shares: 512",),
    ("cpus: 0.5", "cpus: '0.5'", "cpus: .5"),
    ("cpuset: 0-3",),
    ("credential_spec: {file: a.json}",),
    ("depends_on: [db]", "depends_on: {db: {condition: service_started}}"),
    ("depends_on: {db: {condition: service_healthy}}",),
    ("depends_on: {db: {condition: service_completed_successfully}}",),
    ("depends_on: {db: {condition: service_started, restart: true}}",),
    ("depends_on: {gone: {condition: service_started, required: false}}",),
    ("deploy: {endpoint_mode: vip}",),
    ("deploy: {labels: {a: b}}",),
    ("deploy: {mode: global}", "deploy: {mode: replicated}"),
    ("deploy: {mode: replicated-job}",),
    ("deploy: {placement: {constraints: [node.role==manager]}}",),
    ("deploy: {replicas: 1}", "deploy: {replicas: '1'}"),
    ("deploy: {replicas: 3}",),
    ("deploy: {replicas: 0}",),
    ("deploy: {resources: {limits: {cpus: '0.5', memory: 512m, pids: 100}}}",
     "deploy: {resources: {limits: {cpus: 0.5, memory: 512MB, pids: '100'}}}"),
    ("deploy: {resources: {reservations: {memory: 20m}}}",),
    ("deploy: {resources: {reservations: {cpus: '0.5'}}}",),
    ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",),
    ("deploy: {restart_policy: {condition: any}}", "deploy: {restart_policy: {condition: always}}"),
    ("deploy: {restart_policy: {condition: none}}", "deploy: {restart_policy: {condition: 'no'}}"),
    ("deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}",),
    ("deploy: {restart_policy: {condition: unless-stopped}}",),
    ("deploy: {restart_policy: {condition: any, delay: 5s, window: 120s}}",),
    ("deploy: {rollback_config: {parallelism: 1}}",),
    ("deploy: {update_config: {parallelism: 1}}",),
    ("deploy: {update_config: {order: start-first}}",),
    ("deploy: {update_config: {order: stop-first}}",),
    ("deploy: {update_config: {order: any}}",),
    ("develop: {watch: [{path: ., action: sync, target: /a}]}",),
    ("device_cgroup_rules: ['c 1:3 mr']",),
    ("devices: ['/dev/ttyUSB0:/dev/ttyUSB0']", "devices: [{source: /dev/ttyUSB0, target: /dev/ttyUSB0}]"),
    ("dns: 9.9.9.9", "dns: [9.9.9.9]"),
    ("dns_opt: [ndots]",),
    ("dns_search: example.com", "dns_search: [example.com]"),
    ("domainname: example.com",),
    ("entrypoint: /run.sh -v", "entrypoint: [/run.sh, -v]"),
    ("entrypoint: ''", "entrypoint: []"),
    ("entrypoint:",),
    ("env_file: app.env", "env_file: [app.env]", "env_file: [{path: app.env}]",
     "env_file: {path: app.env, required: true}"),
    ("env_file: [{path: none.env, required: false}]",),
    ("env_file: [{path: app.env, format: raw}]",),
    ("environment: {A: '1', B: 'true'}", "environment: [A=1, B=true]", "environment: {A: 1, B: true}"),
    ("environment: {A: }", "environment: [A]"),
    ("environment: {A: ''}", "environment: ['A=']"),
    ("expose: ['3000']", "expose: [3000]", "expose: ['3000/tcp']"),
    ("extends: db", "extends: {service: db}"),
    ("extends: {service: web, file: base.yaml}",),
    ("external_links: [other]",),
    ("extra_hosts: {a: 10.0.0.1}", "extra_hosts: ['a:10.0.0.1']", "extra_hosts: [a=10.0.0.1]"),
    ("extra_hosts: ['a=[::1]']", "extra_hosts: ['a:::1']", "extra_hosts: {a: ['::1']}"),
    ("extra_hosts: ['host.docker.internal:host-gateway']",),
    ("gpus: all", "gpus: [{driver: nvidia}]"),
    ("group_add: ['1000']", "group_add: [1000]"),
    ("healthcheck: {test: curl -f http://127.0.0.1}", "healthcheck: {test: [CMD-SHELL, curl -f http://127.0.0.1]}"),
    ("healthcheck: {test: [CMD, curl, -f, 'http://127.0.0.1']}",),
    ("healthcheck: {test: [CMD-SHELL, pg_isready, -U, app]}",),
    ("healthcheck: {disable: true}", "healthcheck: {disable: 'true'}"),
    ("healthcheck: {test: [NONE]}",),
    ("healthcheck: {test: ok, interval: 1m30s, timeout: 10s, retries: 3, start_period: 1h, start_interval: 500ms}",
     "healthcheck: {test: ok, interval: 90s, timeout: 10000ms, retries: '3', start_period: 60m, start_interval: 0.5s}"),
    ("hostname: inner",),
    ("image: docker.io/library/caddy:2.11", "image: caddy:2.11", "image: library/caddy:2.11"),
    ("image: caddy",),
    ("init: true", "init: 'true'"),
    ("ipc: private", "ipc: shareable"),
    ("ipc: host", "ipc: service:db"),
    ("isolation: default",),
    ("isolation: hyperv",),
    ("label_file: labels", "label_file: [labels]"),
    ("labels: {a: b, c: ''}", "labels: [a=b, c]", "labels: {a: b, c: }"),
    ("links: [db]",),
    ("links: ['db:database']",),
    ("logging: {driver: json-file, options: {max-size: 10m}}",),
    ("mac_address: 02:42:ac:11:65:43",),
    ("mem_limit: 512m", "mem_limit: 512MB", "mem_limit: 536870912", "mem_limit: '536870912'", "mem_limit: 0.5g"),
    ("mem_reservation: 100m",),
    ("mem_swappiness: 60",),
    ("memswap_limit: -1", "memswap_limit: '-1'", "memswap_limit: 0"),
    ("memswap_limit: 1g",),
    ("models: [ai]",),
    ("network_mode: bridge", "network_mode: default"),
    ("network_mode: none",),
    ("network_mode: service:db",),
    ("network_mode: host",),
    ("network_mode: container:other",),
    ("networks: [inside]", "networks: {inside: }", "networks: {inside: {}}"),
    ("networks: {inside: {aliases: [other]}}",),
    ("networks: {inside: {ipv4_address: 172.20.0.5}}", "networks: {inside: {ipv6_address: '2001:db8::5'}}"),
    ("networks: {inside: {driver_opts: {a: b}}}",),
    ("networks: {inside: {interface_name: eth5}}",),
    ("networks: {inside: {priority: 10}}",),
    ("networks: {inside: {gw_priority: 10}}",),
    ("oom_kill_disable: true",),
    ("oom_score_adj: -500",),
    ("pid: host", "pid: service:db"),
    ("pids_limit: 100", "pids_limit: '100'"),
    ("pids_limit: -1",),
    ("platform: linux/amd64",),
    ("platform: windows/amd64",),
    ("ports: ['8080:80']", "ports: [80]", "ports: ['80']", "ports: ['127.0.0.1:8080:80/tcp']",
     "ports: [{target: 80, published: '8080', protocol: tcp, mode: host}]", "ports: ['[::1]:8080:80']"),
    ("ports: ['3000-3001:3000-3001']",),
    ("ports: ['51820:51820/udp']", "ports: [{target: 51820, published: 51820, protocol: udp}]"),
    ("ports: ['1883:1883']",),
    ("post_start: [{command: ok}]",),
    ("pre_start: [{command: ok}]",),
    ("pre_stop: [{command: ok}]",),
    ("privileged: false",),
    ("privileged: true", "privileged: 'true'"),
    ("profiles: [debug]",),
    ("profiles: []",),
    ("provider: {type: awesomecloud}",),
    ("pull_policy: always",),
    ("pull_policy: missing", "pull_policy: if_not_present"),
    ("pull_policy: never",),
    ("pull_policy: build",),
    ("pull_policy: daily",),
    ("pull_policy: every_12h",),
    ("pull_refresh_after: 24h",),
    ("read_only: true", "read_only: 'true'"),
    ("restart: 'no'", "restart: no", "restart: false"),
    ("restart: always",),
    ("restart: unless-stopped",),
    ("restart: on-failure",),
    ("restart: on-failure:3",),
    ("runtime: runc",),
    ("runtime: nvidia",),
    ("scale: 1", "scale: '1'"),
    ("scale: 2",),
    ("scale: 0",),
    ("secrets: [word]", "secrets: [{source: word}]"),
    ("secrets: [{source: word, target: inner, uid: '103', gid: '103', mode: 0o440}]",
     "secrets: [{source: word, target: inner, uid: 103, gid: 103, mode: '0440'}]"),
    ("security_opt: [no-new-privileges]", "security_opt: ['no-new-privileges:true']"),
    ("security_opt: ['seccomp:unconfined']", "security_opt: [apparmor=unconfined]", "security_opt: ['label:disable']"),
    ("shm_size: 64m", "shm_size: 67108864"),
    ("stdin_open: true", "stdin_open: 'true'"),
    ("stop_grace_period: 1m30s", "stop_grace_period: 90s"),
    ("stop_signal: SIGUSR1",),
    ("storage_opt: {size: 1G}",),
    ("sysctls: {net.core.somaxconn: 1024}", "sysctls: [net.core.somaxconn=1024]"),
    ("sysctls: {vm.max_map_count: 262144}",),
    ("tmpfs: /run", "tmpfs: [/run]"),
    ("tmpfs: ['/run:size=64m,mode=755']",),
    ("tmpfs: ['/run:uid=1000,gid=1000']",),
    ("tty: true", "tty: 'true'"),
    ("ulimits: {nproc: 65535}", "ulimits: {nproc: '65535'}"),
    ("ulimits: {nofile: {soft: 20000, hard: 40000}}",),
    ("ulimits: {memlock: {soft: -1, hard: -1}}",),
    ("use_api_socket: true",),
    ("user: '1000'", "user: 1000", "user: '1000:'"),
    ("user: app:app",),
    ("user: ':'",),
    ("userns_mode: host",),
    ("userns_mode: keep-id",),
    ("uts: host",),
    ("volumes: ['data:/data']", "volumes: ['data:/data:rw']", "volumes: ['data:/data:z']",
     "volumes: [{type: volume, source: data, target: /data}]"),
    ("volumes: ['data:/data:ro']", "volumes: [{type: volume, source: data, target: /data, read_only: true}]"),
    ("volumes: [/data]", "volumes: [{type: volume, target: /data}]"),
    ("volumes: ['data:/data:nocopy']",
     "volumes: [{type: volume, source: data, target: /data, volume: {nocopy: true}}]"),
    ("volumes: [{type: volume, source: data, target: /data, volume: {subpath: a}}]",),
    ("volumes: ['./new:/data']", "volumes: [{type: bind, source: ./new, target: /data}]",
     "volumes: [{type: bind, source: new, target: /data, bind: {create_host_path: true, selinux: z}}]"),
    ("volumes: ['./site.conf:/site.conf:ro']",
     "volumes: [{type: bind, source: ./site.conf, target: /site.conf, read_only: true}]"),
    ("volumes: ['./site.conf:/site.conf']",),
    ("volumes: ['.:/app']",),
    ("volumes: ['../data:/data']",),
    ("volumes: ['~/data:/data']",),
    ("volumes: ['/srv/data:/data']",),
    ("volumes: ['/srv/app.conf:/app.conf']",),
    ("volumes: ['/etc/letsencrypt:/certs:ro']",),
    ("volumes: ['/dev/urandom:/dev/random:ro']",),
    ("volumes: ['./one:/data', './two:/data']",),
    ("volumes: ['/etc/localtime:/etc/localtime:ro']", "volumes: ['/etc/timezone:/etc/timezone:ro']"),
    ("volumes: ['/var/run/docker.sock:/var/run/docker.sock']",),
    ("volumes: ['/proc:/host/proc:ro']",),
    ("volumes: [{type: tmpfs, target: /run, tmpfs: {size: 64m, mode: 0o755}}]",),
    ("volumes: [{type: image, source: redis, target: /a}]",),
    ("volumes: [{type: npipe, source: a, target: /a}]",),
    ("volumes_from: [db]", "volumes_from: ['db:rw']"),
    ("volumes_from: ['db:ro']",),
    ("volumes_from: ['container:db']",),
    ("working_dir: /srv",),
)  # fmt: skip
# And of the top level.
TOP: Final[tuple[Forms, ...]] = (
    ("configs: {other: {file: ./site.conf}}",),
    ("configs: {other: {content: x}}",),
    ("configs: {other: {environment: NAME}}",),
    ("configs: {other: {external: true}}",),
    ("configs: {other: {template_driver: golang}}",),
    ("include: [more.yaml]", "include: [{path: more.yaml}]", "include: [{path: [more.yaml]}]"),
    ("include: [{path: [more.yaml, changed.yaml]}]",),
    ("include: [{path: more.yaml, project_directory: ..}]",),
    ("include: [{path: more.yaml, env_file: x.env}]",),
    ("models: {ai: {model: a/b}}",),
    ("name: other",),
    ("networks: {other: {driver: bridge}}", "networks: {other: {driver: overlay}}"),
    ("networks: {other: {driver: macvlan}}",),
    ("networks: {other: {driver_opts: {a: b}}}",),
    ("networks: {other: {attachable: true, labels: {a: b}, name: own}}",),
    ("networks: {other: {enable_ipv6: true}}",),
    ("networks: {other: {enable_ipv4: false}}",),
    ("networks: {other: {external: true}}", "networks: {other: {external: {name: own}}}"),
    ("networks: {other: {internal: true}}",),
    ("networks: {other: {ipam: {config: [{subnet: 172.28.0.0/16}]}}}",),
    ("secrets: {other: {external: true, name: own}}",),
    ("secrets: {other: {file: ./secret}}",),
    ("secrets: {other: {environment: NAME}}",),
    ("secrets: {other: {driver: a}}",),
    ("secrets: {other: {template_driver: a}}",),
    ("version: '3.8'",),
    ("volumes: {other: }", "volumes: {other: {}}", "volumes: {other: {driver: local, name: own, labels: {a: b}}}"),
    ("volumes: {other: {driver: nfs}}",),
    ("volumes: {other: {driver_opts: {type: none, o: bind, device: /srv}}}",),
    ("volumes: {other: {driver_opts: {type: nfs, o: addr=10.0.0.9, device: ':/srv'}}}",),
    ("volumes: {other: {external: true}}", "volumes: {other: {external: {name: own}}}"),
    ("x-own: {a: b}",),
)  # fmt: skip


def read(directory: Path, form: str, *, top: bool) -> tuple[StackContents | None, Report]:
    """What the form becomes, laid over the rest of the file, and what is said about it."""
    for name, text in _FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    web = "" if form.startswith("build:") else _PULLED
    (directory / "compose.yaml").write_text(_AROUND.replace("{web}", web))
    (directory / "form.yaml").write_text(f"{form}\n" if top else f"services:\n  web:\n    {form}\n")
    report = Report()
    over = [directory / "form.yaml"]
    return compose.load(directory / "compose.yaml", over=over, stack="app", report=report), report


def verdict(report: Report) -> str:
    """`same`, or the first thing that is said: refused, left out, or what is another than in Compose."""
    errors = [problem.message for problem in report if problem.severity == "error"]
    if errors:
        return f"refused: {errors[0]}"
    warnings = [problem.message for problem in report]
    if not warnings:
        return "same"
    return warnings[0] if warnings[0].startswith("left out: ") else f"told: {warnings[0]}"


def rows(forms: tuple[Forms, ...], *, top: bool) -> Iterator[tuple[Forms, str, list[Any]]]:
    """Each row: its forms, what becomes of them in words, each once, and their contents."""
    for row in forms:
        found, said = [], []
        # What is built names its directory: it is the same one for all forms of a row.
        with tempfile.TemporaryDirectory() as directory:
            for form in row:
                contents, report = read(Path(directory), form, top=top)
                found.append(contents)
                said.append(verdict(report))
        yield row, " / ".join(dict.fromkeys(said)), found


def page(text: str) -> str:
    """The text of the page with its tables made anew, each between two comments."""
    for name, forms in (("services", SERVICE), ("top level", TOP)):
        begin, end = f"<!-- forms of {name}: made of tests/compose_forms.py -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{table(forms, top=forms is TOP)}{end}{rest.partition(end)[2]}"
    return text


def table(forms: tuple[Forms, ...], *, top: bool) -> str:
    """The rows as Markdown."""
    lines = ["| as the file has it | here |", "|---|---|"]
    for row, said, _ in rows(forms, top=top):
        shown = ", ".join(f"`{form.replace('|', chr(92) + '|')}`" for form in row)
        lines.append(f"| {shown} | {said.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
