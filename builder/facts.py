"""Numbers and paths that more than one part of the host uses, once.

Scripts of images/rootfs that have no template repeat a few of them; tests hold those equal.
"""

from __future__ import annotations

from typing import Final

# Ports. The world sees SSH, HTTP and HTTPS; the proxy listens on high ports behind a redirect.
SSH: Final = 22
HTTP: Final = 80
HTTPS: Final = 443
PROXY_HTTP: Final = 8080
PROXY_HTTPS: Final = 8443
PROXY_ADMIN: Final = 2019

# Addresses that answer with credentials or a machine's identity. Link-local covers nearly every cloud; the others are
# AWS over IPv6, Google over IPv6, and Azure's WireServer.
METADATA: Final = ("169.254.0.0/16", "168.63.129.16/32", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128")

# What this host's domains resolve to in its containers: Podman's address for the host, and one of nobody's (RFC 4193).
# The host's own addresses are the container's as well, and a public one may be the provider's.
OWN_SITES: Final = ("169.254.1.2", "fd65:7a3c:91e4::2")

# Identity. A slot gives both the user's id and its subordinate range: uid = UID_BASE + slot, range = slot * 65536.
# Slots 1 and 2 are left to the admin (useradd hands out 100000-165535), slot 8 is the proxy.
UID_BASE: Final = 20_000
SUBID_SIZE: Final = 65_536
FIRST_SLOT: Final = 8
LAST_SLOT: Final = 32_767
PROXY_SLOT: Final = FIRST_SLOT
PROXY_USER: Final = "er-proxy"
PROXY_UID: Final = UID_BASE + PROXY_SLOT
STACK_USER_PREFIX: Final = "er-"

# The login that may only deploy: its user, with an id below the proxy's, and the group by which sshd lets it in.
DEPLOY_LOGIN: Final = "deploy"
DEPLOY_UID: Final = UID_BASE + PROXY_SLOT - 1
DEPLOY_GROUP: Final = "er-deploy"

# Paths on the host.
ETC: Final = "/etc/easyrunner"
LIB: Final = "/usr/lib/easyrunner"
STATE: Final = "/var/lib/easyrunner"
RUN: Final = "/run/easyrunner"
PROXY_SOCKETS: Final = f"{RUN}/proxy"
IMAGES: Final = f"{STATE}/images"
HOMES: Final = f"{STATE}/home"
# Where the proxy finds the sockets that apps make themselves: a directory for each stack that has such.
LISTEN: Final = f"{STATE}/listen"
# What outlives the machine, on its disk or on one of its own, and nothing else: docs/data.md. Down to the directories
# named here all is root's. A stack has three: volumes (Podman's named ones), files (what relative bind mounts keep) and
# secrets (Podman's), which are its own.
DATA: Final = f"{STATE}/data"
STACK_DATA: Final = f"{DATA}/stacks"
CADDY_DATA: Final = f"{DATA}/caddy"
BANS: Final = f"{DATA}/fail2ban"
# A number, and the stacks that have data there with their uids, in one line.
DATA_FORMAT: Final = f"{DATA}/format"
# What stands before the host, as JSON; and whom Caddy refuses there: a directory for each address, in it a file for
# each jail. It lies below what Caddy sees of the host, and its name has a dot, as no stack's has.
EDGE: Final = f"{ETC}/edge.json"
REFUSED: Final = f"{PROXY_SOCKETS}/.refused"
# The ext4 label of a disk of its own.
DATA_LABEL: Final = "er-data"
# What is mounted there, a link, and why it is not yet; only on hosts whose spec names such a disk.
DATA_DISK: Final = f"{RUN}/disk"
DATA_SAID: Final = f"{RUN}/disk.said"
DATA_MOUNT: Final = "/etc/systemd/system/var-lib-easyrunner-data.mount"
# Certificates that hosts share are mounted where the proxy has its own: from where, and why not yet. Only there.
# And how many seconds a clock may be off: Caddy holds a lock for dead that was not touched for ten.
STORAGE: Final = f"{ETC}/storage"
STORAGE_SAID: Final = f"{RUN}/storage.said"
CLOCK_LIMIT: Final = 5
STACKS: Final = f"{ETC}/stacks"
# What is built on the server, by stack: the image store of its builds, and what they print.
BUILDS: Final = f"{STATE}/builds"
FIREWALL: Final = f"{ETC}/firewall.d"
NAMES: Final = f"{LIB}/names"
# The journal of what stacks say, beside the host's own: LogNamespace= in systemd.exec(5).
JOURNAL: Final = "stacks"
ANSWERS: Final = f"{STATE}/names"
# Where programs of our users look for their settings, by uid: root's, and empty unless somebody puts a file there.
CONFIG: Final = f"{STATE}/config"
# Each stack's passwords of registries, below its directory of settings; Podman is told by REGISTRY_AUTH_FILE.
AUTH_FILE: Final = "containers/auth.json"
# Who logs in where, a line each: the stack (or proxy), the registry, the name there.
LOGINS: Final = f"{ETC}/registries"
# The packages that this host needs beside those of every host, a line each.
PACKAGES: Final = f"{ETC}/packages"
# Where the server's role logs in, a line each: the stack, the registry, and its name to who asks for the password. What
# came of it: by stack and registry, until when the last password is good, and what was said when there was none.
ROLE_LOGINS: Final = f"{ETC}/ecr"
ROLE_STATE: Final = f"{STATE}/ecr/state.json"
ROLE_LOCK: Final = f"{STATE}/ecr/lock"
QUADLETS: Final = "/etc/containers/systemd/users"
# What the unit of a service's next container begins with, before STACK:SERVICE; no service has a colon in its name.
NEXT: Final = "er-next:"
# What stacks run by a release: whole units by uid, where Podman's generator reads no drop-ins; and the records.
RELEASE_UNITS: Final = f"{ETC}/releases"
RELEASES: Final = f"{DATA}/releases"

# Beside a stack's services: which branch may be pushed, and how each service is built of that. And the hooks of all
# repositories, which lie with the builds.
GIT: Final = "git.json"
GIT_HOOKS: Final = f"{STATE}/git-hooks"

# Whose keys may deploy what, a line of authorized_keys each; and where the service listens that does what they ask.
DEPLOY_KEYS: Final = f"{ETC}/deploy-keys"
DEPLOY_SOCKET: Final = f"{RUN}/deploy.sock"
# Who restores what the weekly drill tries: a number below those of deploy keys, of a user that the host does not have.
DRILL_UID: Final = UID_BASE + PROXY_SLOT - 2
# What a deploy key has instead of a shell.
DEPLOY_SHELL: Final = f"{LIB}/deploy"
# The remote parts that admins' calls have left, by digest: root's alone, and gone with the next boot.
REMOTE: Final = f"{RUN}/remote"
# The remote part that serves deploy keys, and makes backups: the admin's last apply has left it, or who set a secret of
# the host.
REMOTE_CODE: Final = f"{STATE}/remote.zip"

# Which stacks' images update themselves, by stack as JSON; and of each what was tried, and did not stay.
UPDATES: Final = f"{ETC}/updates.json"
UPDATED: Final = f"{STATE}/updates"

# Backups: what the spec says of them, as JSON; how the last ones went, and dumps while one is made; and secrets of the
# host, a file each, which no stack reads.
BACKUP: Final = f"{ETC}/backup.json"
BACKUPS: Final = f"{STATE}/backup"
# What belongs to no stack is backed up under this name.
BACKUP_HOST: Final = "host"
HOST_SECRETS: Final = f"{DATA}/secrets"
# What restores lay beside a stack's data, on the same disk, and keep of before.
RESTORES: Final = f"{DATA}/restores"
# Where the weekly drill restores to, below STATE or DATA: whichever has more room. `room` knows these names.
DRILLS: Final = "drills"
# On a machine that is made of spec and repository alone: what brings its data, and that it has come.
FIRST_RESTORE: Final = "/etc/systemd/system/easyrunner-restore.service"
RESTORED: Final = f"{STATE}/restored"

# What is told: what the spec says of it, as JSON; and what is queued and was told.
NOTIFY: Final = f"{ETC}/notify.json"
NOTICES: Final = f"{STATE}/notify"

# On a host of a fleet: the fleet's name, how long it serves on, and which secrets it needs, a line each as NAME=VALUE;
# and that these have come.
FLEET: Final = f"{ETC}/fleet"
FLEET_DONE: Final = f"{STATE}/fleet"
# Seconds that a host serves on after it has failed its health check: a balancer of AWS's sends connections to one that
# is taken away for two minutes and more.
DRAIN: Final = 300
# Behind a balancer: where it asks for the host's health, on port 80. Both files are where the proxy can see them: the
# host is healthy, and it serves visitors.
READY_PATH: Final = "/.well-known/easyrunner/ready"
HOST_READY: Final = f"{PROXY_SOCKETS}/host.ready"
HOST_OPEN: Final = f"{PROXY_SOCKETS}/host.open"

# The file beside a unit by which it runs the image of a release, and not its own.
RELEASE_DROP_IN: Final = "90-release.conf"

# Images: the proxy is pinned by its release, as name:tag or name:tag@digest; a spec may name another, and
# `er server apply --newest-proxy` writes there what it took, by its digest.
PROXY_IMAGE: Final = "docker.io/library/caddy:2.11.7"

# Of a limit. Less than this, and podman, which starts the container inside the same limits, may not get far enough.
MIN_MEMORY: Final = 64 * 1024 * 1024
MIN_PIDS: Final = 64

# What one client may have at the same time, a network of 64 bits in IPv6, and how fast; and what a request may be. An
# HTTP/2 connection carries 250 requests at most (golang.org/x/net/http2), which all may be an app's: the ingress takes
# more than one client can have.
CLIENT_CONNECTIONS: Final = 64
CLIENT_RATE: Final = 50
# The same of a stack that calls this host's sites: as four visitors, since a page may take several calls.
STACK_CONNECTIONS: Final = 4 * CLIENT_CONNECTIONS
STACK_RATE: Final = 4 * CLIENT_RATE
INGRESS_CONNECTIONS: Final = 20_480
MAX_BODY: Final = 2 * 1024**3
# Seconds until an answer begins: an export or a model's answer has its time, and an app that hangs does not hold the
# proxy for ever. Nobody waits so long for an app that is not there.
RESPONSE_TIMEOUT: Final = 3600
QUEUE_TIMEOUT: Final = 60

# When a running server wants attention. Caddy renews when a third is left: a certificate of 90 days that has fewer days
# than these was not renewed. Its own authority signs for hours, on purpose. Of the disk, this share is to be free.
LEAST_DAYS: Final = 14
INTERNAL_ISSUER: Final = "Local Authority"
LEAST_FREE: Final = 0.1
# Seconds: a backup each day that is older than this was missed.
BACKUP_LATE: Final = 36 * 3600

# Where an apply has come to its end, as its state says.
APPLY_ENDS: Final = frozenset({"done", "rolled back", "failed"})
