"""Texts of problems in Compose files. Reasons that belong to one key alone stand in the tables of keys."""

from __future__ import annotations

from typing import Final

from builder.messages import FILE_ENCODING, FILE_UNREADABLE, Text

__all__ = ["FILE_ENCODING", "FILE_UNREADABLE"]

# Values of the wrong form.
WANTS_TEXT: Final = Text("this should be text", "a single value, not a list, a mapping or nothing")
WANTS_PLAIN: Final = Text("`{value}` has a character that cannot stand here", "use letters, digits, `.`, `_` and `-`")
WANTS_BOOLEAN: Final = Text("this is true or false", "write true or false")
WANTS_INTEGER: Final = Text("this is a whole number", "write digits only")
WANTS_NUMBER: Final = Text("this is a number", "as in 0.5")
WANTS_SIZE: Final = Text("this is no size", "as in 512m or 1g")
WANTS_DURATION: Final = Text("this is no duration", "as in 30s or 1m30s")
WANTS_LIST: Final = Text("this should be a list", "one item to a line, each after `- `")
WANTS_MAPPING: Final = Text("this should be a mapping", "lines of `key: value` under it")
WANTS_PAIRS: Final = Text("this should be a mapping or a list", "as in `NAME: value`, or `- NAME=value`")
CONTROL_CHARACTER: Final = Text("a control character stands in this value", "write it without")
NUMBER_CHANGES: Final = Text(
    "`{raw}` is the number {text} to Compose, and that is what arrives", 'quote it: "{raw}"', "warning"
)
PAIR_NAME: Final = Text("a name is missing here", "as in NAME=value")
COMMAND_QUOTES: Final = Text("a quote in this command is not closed", "close it, or write the command as a list")
COMMAND_EMPTY: Final = Text(
    "the image's command cannot be emptied alone", "set `entrypoint` to the whole command line instead"
)
PATH_ABSOLUTE: Final = Text("`{path}` is no place in the container", "start it with /")
HOSTNAME: Final = Text("`{name}` is not a host name", "letters, digits, `-`, `_` and `.`, at most 63")
ADDRESS: Final = Text("`{value}` is not an IP address", "as in 9.9.9.9")
MODE: Final = Text("this is no file mode", 'octal digits, as in "0440"')

# Keys.
KEY_UNKNOWN: Final = Text("Compose has no key `{name}` here", "keys of your own start with x-")
KEY_UNKNOWN_NEAR: Final = Text("Compose has no key `{name}` here", "do you mean `{near}`?")
KEY_MISSING: Final = Text("`{name}` is missing here", "add it")

# Variables and env files.
VARIABLE_FORMAT: Final = Text(
    "`${{{inside}` is not a variable", "write ${{NAME}} or ${{NAME:-default}}; for a dollar as such write $$"
)
# How a variable gets its value: {way} of the texts below.
SET_VARIABLE: Final = "set it in the file .env beside the compose file"
COPY_EXAMPLE: Final = "copy {example} to .env beside the compose file, and set it there"
VARIABLE_REQUIRED: Final = Text("the variable {name} is required: {reason}", "{way}")
VARIABLE_UNSET: Final = Text(
    "the variable {name} is not set and counts as empty", "{way}, or give it a default: ${{{name}:-value}}", "warning"
)
VARIABLE_BEHIND: Final = Text("{message}; without a value of {names} it is `{value}`", "{way}")
VARIABLE_SERVER_IP: Final = Text(
    "the address of the server is not known before it exists, {name} counts as empty",
    "use a domain: ${{EASYRUNNER_APP_DOMAIN}}",
    "warning",
)
ENV_LINE: Final = Text("this line is no variable", "as in NAME=value; comments start with #")
ENV_QUOTE: Final = Text("a quote is opened here and never closed", "close it; quoted values may go over lines")
ENV_AFTER_QUOTE: Final = Text("something follows the closing quote", "put all of the value in the quotes")
ENV_NAME: Final = Text("`{name}` is not the name of a variable", "a name has no blanks and no `=`")
ENV_PASSED: Final = Text(
    "left out: no value is known of {names}",
    "set them in the file .env beside the compose file; a secret is named in the spec, in `secret_env` of this stack",
    "warning",
)
ENV_REPLACED: Final = Text(
    "the value of {name} is left out: by `secret_env` of the spec it is a secret of {service}",
    "a password that was shared or committed is best set anew, with er server secret set or generate",
    "warning",
)
ENV_SECRET: Final = Text(
    "looks like a secret, and goes into user-data in the clear: {names}",
    "write {way} in the spec, beside `compose`, and set them on the server; images that read NAME_FILE also take"
    " `secrets:` with `external: true` and NAME_FILE: /run/secrets/…",
    "warning",
)
ENV_FILE_MISSING: Final = Text("there is no file {path}", "the path is relative to this file; or say required: false")
ENV_FILE_EXAMPLE: Final = Text("there is no file {path}", "copy {example}, which the project ships, and fill it in")
ENV_FORMAT: Final = Text("the only format is `raw`", "leave it out for the usual one")

# Process.
CAPABILITY: Final = Text("there is no capability {name}", "as in NET_BIND_SERVICE")
CAPABILITY_ALL: Final = Text("all capabilities are not given to anyone", "name the ones it needs")
SECURITY_OPT: Final = Text(
    "left out: security options are not changed one by one, {service} keeps its hardening",
    "the label xyz.easyrunner.service.security-hardening takes standard, strict or off",
    "warning",
    once=True,
)
SYSCTL: Final = Text(
    "`{name}` is a setting of the whole host",
    "a service can set those of its own: net.*, kernel.shm*, fs.mqueue.*",
)
ULIMIT_NAME: Final = Text("there is no limit `{name}`", "as in nofile")
ULIMIT_FORM: Final = Text("a limit is a number, or soft and hard", "as in nofile: {{soft: 1024, hard: 4096}}")
ULIMIT_HIGH: Final = Text("{name} is lowered to {highest}: a rootless service gets no more", None, "warning", once=True)
RESTART: Final = Text("there is no policy `{policy}`", "no, always, unless-stopped, on-failure or on-failure:3")
RESTART_CONDITION: Final = Text(
    "there is no condition `{name}`", "any, on-failure or none; or always, unless-stopped, no"
)
UPDATE_ORDER: Final = Text("there is no order `{name}`", "start-first, or stop-first for what must never run twice")
RESTART_PAUSE: Final = Text(
    "left out: pauses between two starts grow from 1 second to 1 minute on this host", None, "warning"
)
HEALTH_TEST: Final = Text(
    "a list begins with how to run it",
    'as in ["CMD", "curl", "-f", "http://127.0.0.1"], ["CMD-SHELL", "…"] or ["NONE"]',
)
HEALTH_WORDS: Final = Text(
    "after CMD-SHELL the shell runs `{line}` alone, also with Docker: the words after it are its parameters",
    "write the whole command as one text, or CMD in place of CMD-SHELL",
    "warning",
)
HEALTH_RETRIES: Final = Text("the number of retries is at least 1", "leave it out for the usual 3")
DEPENDS_CONDITION: Final = Text("there is no such condition", "one of {conditions}")
MEMORY_LOW: Final = Text("raised to {least} MiB: with less, podman cannot start the container", None, "warning")
SWAP_ALONE: Final = Text(
    "left out: without mem_limit there is no memory that {service} may have and swap beside it",
    "add mem_limit",
    "warning",
)
SWAP_LOW: Final = Text("memory and swap together are less than memory alone", "write at least mem_limit")
PIDS_LOW: Final = Text("raised to {least}: with less, podman cannot start the container", None, "warning")
REPLICAS: Final = Text(
    "one container of {service} runs here, not {number}", "more need more servers; 0 leaves it out", "warning"
)
DEPLOY_MODE: Final = Text("jobs of Swarm are not run", "write restart: on-failure")

# Images.
BUILD_LEFT: Final = Text(
    "left out: the image under `image` is pulled, as Compose tries first",
    "`pull_policy: build` builds it instead",
    "warning",
    once=True,
)
BUILD_INLINE: Final = Text("`dockerfile` beside `dockerfile_inline`", "keep one of them")
BUILD_ARGUMENT: Final = Text(
    "left out: no value is known of {name}", "write one, or put it into the .env beside the compose file", "warning"
)
BUILD_NETWORK: Final = Text("left out: a build is not on the network {name}", "none is the other choice", "warning")
BUILD_PLATFORM: Final = Text(
    "left out: no server is {name}", "images are built for the server's own processor", "warning"
)
IMAGE_MISSING: Final = Text("{service} has no image", "add image: docker.io/…")
PLATFORM: Final = Text("the server cannot be {name}", "linux/amd64 or linux/arm64")
PULL: Final = Text("there is no policy `{name}`", "always, missing or never")
PULL_BUILD: Final = Text("there is no `build` that says what of", "write `build: .` beside it")
PULL_EVERY: Final = Text("{name} becomes always: the image is looked for at each start", None, "warning")

# Labels.
LABEL_UNKNOWN: Final = Text("EasyRunner has no label {name}", "do you mean {near}?")
LABEL_TYPE: Final = Text("`{value}` is not a type of service", "web, internal or worker")
LABEL_PORT: Final = Text("a port is a number from 1 to 65535", 'the one the app listens on, as in "3000"')
LABEL_HARDENING: Final = Text("`{value}` is not a level of hardening", 'standard, strict or "off", in quotes')
LABEL_MAX_BODY: Final = Text("`{value}` is not the size of a request", "as in 10G, or none for no limit")
LABEL_RESPONSE_TIMEOUT: Final = Text("`{value}` is not a time", "as in 5m, or none to wait for ever")
LABEL_PROTOCOL: Final = Text("`{value}` is not what an app speaks", "http, or h2c: HTTP/2 without TLS, as for gRPC")
LABEL_BUILD: Final = Text("a label alone builds nothing", "write build: {context} at {service}, and remove this label")
LABEL_DOMAIN_MISSING: Final = Text(
    "{service} is of type web and has no domain",
    "add the label xyz.easyrunner.service.domain: app.example.com, or write it in the spec: "
    "public: {{{service}: {{domains: [app.example.com]}}}}",
)
LABEL_DOMAIN_MERGED: Final = Text(
    "{service} takes over the labels of {other}, with its domain",
    "write `labels: {{}}` at {service}; where it comes by `extends`, `labels: !override {{}}`",
)
LABEL_DOMAIN_PRIVATE: Final = Text(
    "a service of type {kind} is not public, and has neither domain nor path nor a socket",
    "make its type web, or remove this label",
)
NOTHING_PUBLIC: Final = Text(
    "no service of this stack is public",
    "write in the spec, at this stack, public: {{{service}: {{domains: [app.example.com], port: 8080}}}}, or give a "
    "service the labels xyz.easyrunner.service.type: web, .domain and .port",
    "warning",
)
PUBLIC_UNKNOWN: Final = Text("there is no service {name} in the Compose file", "do you mean {near}? It has {known}")
PUBLIC_LEFT_OUT: Final = Text("{name} is not started, so nothing would answer", "remove this, or start it")
PUBLIC_TWICE: Final = Text("`{key_name}` is said here, and by the label {label} at {place}", "keep one of them")
PUBLIC_TYPE: Final = Text(
    "{service} is public here, and {kind} by the label xyz.easyrunner.service.type at {place}", "keep one of them"
)

# Networks.
NETWORK_HOST: Final = Text(
    "a service on the host's network would get past the firewall",
    "remove it; the world reaches {service} by `public` in the spec, with its domains and its port",
)
NETWORK_MODE: Final = Text("there is no network mode `{name}` here", "none or service:NAME; or use `networks`")
NETWORK_AND_MODE: Final = Text("`networks` and `network_mode` exclude each other", "keep one of them")
NETWORK_SERVICE: Final = Text(
    "network_mode names the service {name}, which is not there", "name a service of this file"
)
ADDRESS_FIXED: Final = Text(
    "addresses on a network are handed out, and this one is named elsewhere in the file",
    "remove it and call the service by its name",
)
ADDRESS_LEFT: Final = Text(
    "left out: addresses on a network are handed out, services call each other by name", None, "warning", once=True
)
NETWORK_UNDECLARED: Final = Text(
    "the network {name} is not declared", "add it under `networks:` at the top level", once=True
)
NETWORK_EXTERNAL: Final = Text(
    "{name} is a network of this stack alone: stacks do not see each other",
    "services of other stacks are reached by their public domain",
    "warning",
)
PORT_FORM: Final = Text("this is no port", 'as in "8080:80", "80" or "127.0.0.1:8080:80/tcp", in quotes')
PORTS_PUBLIC: Final = Text(
    "{port} is not published on the host: Caddy reaches {service} there, the world by its domain", None, "warning"
)
_PORTS_INSIDE: Final = "nothing outside reaches {ports}: no service opens a port of the host"
PORTS_INSIDE: Final = Text(
    _PORTS_INSIDE,
    "services of the stack reach it at {service}:{port}; for the web, write in the spec "
    "public: {{{service}: {{domains: [app.example.com], port: {port}}}}}",
    "warning",
)
PORTS_INSIDE_PUBLIC: Final = Text(_PORTS_INSIDE, "services of the stack reach it at {service}:{port}", "warning")
_PORTS_FOREIGN: Final = "this host serves HTTP and HTTPS only: nothing outside reaches {ports}"
PORTS_FOREIGN: Final = Text(
    _PORTS_FOREIGN,
    "run {service} on a server of its own; where only services of the stack call it, at {service}:{port}, a second "
    "file under `compose` says so: services: {{{service}: {{ports: !reset []}}}}",
)
PORTS_FOREIGN_LEFT: Final = Text(
    _PORTS_FOREIGN, "services of the stack reach it at {service}:{port}; others need a server of its own", "warning"
)
PORT_TAKEN: Final = {
    "ports": Text("{port} is taken as the port of {service}, from `ports`", None, "warning"),
    "expose": Text("{port} is taken as the port of {service}, from `expose`", None, "warning"),
}
PORT_UNCLEAR: Final = Text(
    "which of {ports} is the web's port of {service} is not clear",
    "write it in the spec, as in public: {{{service}: {{port: 8080}}}}, or as the label xyz.easyrunner.service.port",
)
HOST_GATEWAY: Final = Text(
    "left out: the host itself cannot be reached from a container as {name}",
    "its sites are reached by their domains; run what else is needed as a service",
    "warning",
    once=True,
)

# The file as a whole.
NO_SERVICES: Final = Text("the file has no services", "a compose file lists them under `services:`")
SERVICE_NAME: Final = Text(
    "`{service}` cannot be the name of a service here",
    "at most 40 letters, digits, `.`, `_` and `-`, a letter or digit first",
)
SERVICE_PROFILE: Final = Text(
    "{service} belongs to a profile and is left out, as Compose does",
    "if it should run, name its profile in the file .env, as in COMPOSE_PROFILES={profile}",
    "warning",
)
SERVICE_ZERO: Final = Text("{service} is left out: it has no containers", "set it to 1 if it should run", "warning")
SERVICE_COLLIDES: Final = Text("{service} would get the same unit as another part of this stack", "rename one of them")
DEPENDS_UNKNOWN: Final = Text("there is no service {name}", "name a service of this file")
DEPENDS_PROFILE: Final = Text(
    "{name} belongs to a profile and is not started",
    "start it by COMPOSE_PROFILES in the file .env, or say required: false here",
)
DEPENDS_CYCLE: Final = Text("these services wait for each other: {names}", "take one of the depends_on away")
DEPENDS_NO_CHECK: Final = Text(
    "{name} has no healthcheck in this file, so its start is all that is waited for",
    "give {name} a `healthcheck`",
    "warning",
)
DEPENDS_DISABLED: Final = Text(
    "{name} switches its health check off, and will never be healthy", "wait for service_started"
)
DEPENDS_JOB: Final = Text(
    "{name} is waited for until it has ended, so it is run once and not started again", None, "warning"
)
EXTENDS_CYCLE: Final = Text("{name} extends itself", "take one `extends` away")
EXTENDS_UNKNOWN: Final = Text("there is no service {name} to extend", "name a service of {path}")
INCLUDE_TWICE: Final = Text("{name} is also in {path}, which this file includes", "rename one of them")
INCLUDE_CYCLE: Final = Text("{path} is included by itself", "take one `include` away")
EXTENDS_FILE: Final = Text("{path} cannot be read", "its own problems are shown as well")
FILE_NOT_THERE: Final = Text("there is no file {path}", "the path is relative to this file")

# What is mounted: volumes, tmpfs, binds, configs and secrets.
VOLUME_FORM: Final = Text("this is no volume", "as in name:/path, ./path:/path or ./path:/path:ro")
VOLUME_OPTION: Final = Text("a volume has no option `{option}` here", "ro, rw or nocopy")
VOLUME_TARGET: Final = Text("`{path}` is no place in the container for a volume", "a path below /, as in /data")
VOLUME_TWICE: Final = Text("something is mounted on {path} already", "keep one of them")
VOLUME_REPLACED: Final = Text(
    "left out: what stands later in the list is mounted on the same path, and counts", None, "warning"
)
VOLUMES_FROM: Final = Text("this names no service", "as in web, or web:ro")
VOLUMES_FROM_NOTHING: Final = Text(
    "{name} mounts nothing in this file, and what only its image names cannot be shared",
    "name a volume under `volumes` of both services",
)
VOLUME_OPTIONS: Final = Text(
    "volumes are plain directories of the server, without options", "remove it; data lies on the server's own disk"
)
VOLUME_DEVICE: Final = Text(
    "left out: nothing of yours is at {device} on a fresh server, the volume is a directory of its own", None, "warning"
)
VOLUME_NAME: Final = Text("`{name}` is not the name of a volume", "a path of your own starts with ./")
VOLUME_UNDECLARED: Final = Text(
    "not declared under `volumes` at the top level, which Compose wants as well: {names}",
    "write there, or in a second file under `compose`, volumes: {{{lines}}}; a directory is written ./{name}",
)
VOLUME_TYPE: Final = Text("mounts of type {name} are not made", "volume, bind or tmpfs")
TMPFS_OPTION: Final = Text("tmpfs has no option `{option}` here", "size=64m, mode=1777, ro, exec, …")
TMPFS_OWNER: Final = Text(
    "a tmpfs belongs to root here: {options} becomes mode=1777, so that each user of the container can write to it",
    "write mode=1777 yourself, without uid and gid",
    "warning",
)
BIND_OUTSIDE: Final = Text(
    "{path} is outside of the stack's directory",
    "move it beside the compose file; or name under `compose` a file of your own further up, with include: [this file]",
)
BIND_EVERYTHING: Final = Text(
    "the whole directory cannot be mounted: the app's code belongs in its image",
    "build an image, and mount single files or directories where they are needed",
)
BIND_HOME: Final = Text("the server has no home directory of yours", "move it beside the compose file, as in ./data")
BIND_WINDOWS: Final = Text("this is a path of Windows", "write it relative to the compose file, as in ./data")
BIND_ENGINE: Final = Text(
    "no container gets the engine's socket: who holds it holds every container",
    "leave this service out: EasyRunner's own proxy, updates and logs take its place",
)
BIND_TIMEZONE: Final = Text(
    "left out: files of the host are not mounted, the container's time is UTC",
    "for another, set it in `environment`, as in TZ: Europe/Paris",
    "warning",
    once=True,
)
BIND_CERTIFICATES: Final = Text(
    "{path} is the host's own: certificates are Caddy's, and it ends HTTPS",
    "remove it, and let the app answer in plain HTTP",
)
BIND_DEVICE: Final = Text("left out: each container has {path} of its own", None, "warning", once=True)
BIND_ELSEWHERE: Final = Text(
    "nothing of yours is at {path} on a fresh server: it becomes an empty directory of the stack, {directory}",
    "copy there what the app should find, once the server runs; a file beside the compose file comes along",
    "warning",
)
BIND_SYSTEM: Final = Text(
    "{path} is the host's own, and no stack sees it",
    "an app's own data or settings go beside the compose file, as ./data, or into a volume; what watches the host does "
    "not fit in a stack",
)
BIND_ABSOLUTE: Final = Text(
    "{path} is a file of the host, on which nothing of yours is",
    "put it beside the compose file, and name it there; data goes into a named volume",
)
BIND_MISSING: Final = Text("there is no {path} beside the compose file", "add it, or correct the path")
BIND_READ_ONLY: Final = Text(
    "{path} comes along with the stack and is mounted read-only",
    "add :ro to say so; for data that the app writes, use a named volume",
    "warning",
)
BIND_DIRECTORY: Final = Text(
    "{path} does not exist here, so it becomes an empty directory of the user that the service runs as",
    "if it should be a file, put it beside the compose file",
    "warning",
)
BIND_LARGE: Final = Text(
    "{path} is too large to come along ({files} files; 300 files and 1 MiB are the most)",
    "put it into an image, or into a named volume once the server runs",
)
BIND_SPECIAL: Final = Text("{path} is not a file", "only files come along with a stack")
BIND_SECRET: Final = Text(
    "{path} holds a private key, and would lie in user-data in the clear",
    "use `secrets:` with `external: true`, and push the key once the server runs",
)
CONFIG_VARIABLE: Final = Text("the variable {name} is not set, of which {config} is made", "{way}")
CONFIG_OWNER: Final = Text(
    "left out: uid, gid and mode; the file is the host's, and every service that mounts it can read it",
    None,
    "warning",
)
SOURCE_UNDECLARED: Final = Text("{name} is not declared", "add it under `{kind}:` at the top level", once=True)
SOURCE_NAME: Final = Text("`{name}` cannot be a name here", "letters, digits, `.`, `_` and `-`")
SECRET_VALUE: Final = Text(
    "the value of the secret {name} does not come along: it would land in user-data, which others can read",
    "set it once the server runs: er server secret set HOST {stack} {name}",
    "warning",
)
