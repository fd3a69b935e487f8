"""Texts of problems in the spec; those that Compose files have too are in builder/messages.py."""

from __future__ import annotations

from typing import Final

from builder.messages import Text
from builder.stack import user

# Shape.
EMPTY_SPEC: Final = Text("a spec is a mapping of sections, not {given}", "`er init` writes one to start from")
UNKNOWN_KEY: Final = Text("unknown key `{key}`", "known here: {known}")
UNKNOWN_KEY_NEAR: Final = Text("unknown key `{key}`", "did you mean `{near}`?")
UNKNOWN_KEY_ELSEWHERE: Final = Text("unknown key `{key}`", "it belongs under `{section}`")
KEY_PORTS: Final = Text(
    "`ports` is refused: apps bind no port of the host",
    "Caddy reaches the app by a socket: write `port: 8080`, the port inside the container",
)
MISSING: Final = Text("is missing", "as in `{key}: {example}`")
NO_VALUE: Final = Text("has no value", "write one, or remove the key")
WRONG_TYPE: Final = Text("must be {wanted}, not {given}", "as in `{key}: {example}`")
WRONG_TYPE_QUOTE: Final = Text("must be {wanted}, not {given}", "quote it: {quoted}")
WRONG_TYPE_LIST: Final = Text("must be {wanted}, not {given}", "write a list, even of one: [{raw}]")
WRONG_TYPE_UNQUOTE: Final = Text("must be {wanted}, not {given}", "write it without quotes: {raw}")
UNKNOWN_VALUE: Final = Text("`{value}` is not known", "known here: {known}")
UNKNOWN_VALUE_NEAR: Final = Text("`{value}` is not known", "did you mean `{near}`?")
NUMBER_LOW: Final = Text("must be {limit} or above")
NUMBER_HIGH: Final = Text("must be {limit} or below")
NUMBER_ZERO: Final = Text("must be above {limit}")
LIST_EMPTY: Final = Text("the list is empty", "remove the key, or write at least one value")
LIST_LONG: Final = Text("at most {limit} values", "write a second entry for the rest")
CONTROL_CHARACTER: Final = Text(
    "a control character in the text", "line breaks and other control characters are not allowed here"
)

# Server and admin.
SERVER_NAME: Final = Text(
    "`{value}` is not a host name",
    "one name without its domain: lower case letters, digits and `-`, at most 63 characters, as in web1",
)
BASE_UNTRIED: Final = Text(
    "a host on {base} is rendered, checked by Podman 4.9.3's own generator and was booted once with it on Debian's"
    " systemd; not on Ubuntu",
    "debian-13 is what all tests boot; try this one on a server that you can lose",
    "warning",
)
TIMEZONE: Final = Text("`{value}` is not a time zone", "as in Europe/Berlin or UTC")
ADMIN_NAME: Final = Text(
    "`{value}` is not a user name",
    "lower case letters, digits, `-` and `_`, a letter first, at most 32 characters",
)
ADMIN_RESERVED: Final = Text("`{value}` is a user or group of the system", "choose another name, as in er or ops")
ADMIN_PREFIX: Final = Text(
    "names with `er-` are the users of stacks and of the proxy", "choose another name, as in er or ops"
)

# Data.
DATA_DISK: Final = Text(
    "`{value}` is not a disk for data",
    "auto takes the one disk that is attached, LABEL=er-data the one that has this label already, and a path as in"
    " /dev/disk/by-id/scsi-0DO_Volume_data just that one; docs/data.md",
)

# SSH keys. None of these may quote what was given: it could be a secret.
KEYS_NONE: Final = Text(
    "no SSH key: nobody could log in",
    "add your public key, the line in ~/.ssh/id_ed25519.pub, or the path of that file",
)
KEY_PRIVATE: Final = Text(
    "this is a private key; user-data can be read by others",
    "use the public half, the .pub file; if this file was ever shared or committed, make a new key",
)
KEY_PRIVATE_FILE: Final = Text("{path} holds a private key", "name the public half, {path}.pub")
KEY_FILE_MISSING: Final = Text(
    "there is no file {path}", "give a public key (ssh-ed25519 AAAA…), or a path relative to the spec"
)
KEY_FILE_NEAR: Final = Text("there is no file {path}", "there is {near}")
KEY_FILE_EMPTY: Final = Text(
    "{path} has no public key in it", "one line for each key, as ssh-keygen writes it to the .pub file"
)
KEY_REMOTE: Final = Text(
    "keys are not fetched from the network",
    "download it, look at it, and give the file's path or the key itself",
)
KEY_SSH2: Final = Text("a public key in SSH2 format", "convert it to one line: ssh-keygen -i -f FILE")
KEY_OPTIONS: Final = Text("options before the key are not supported", "start with the type, as in ssh-ed25519 AAAA…")
KEY_NO_TYPE: Final = Text(
    "the key's type is missing", "copy the whole line of the .pub file: ssh-ed25519 AAAA… comment"
)
KEY_TYPE: Final = Text("the server takes no keys of type {kind}", "take one of: {known}")
KEY_DSS: Final = Text("ssh-dss keys are broken, OpenSSH refuses them", "make a new key: ssh-keygen -t ed25519")
KEY_BASE64: Final = Text("the middle part of the key is not base64", "copy the line again, in one piece")
KEY_CUT: Final = Text("the key is cut short or damaged", "copy the line again, in one piece")
KEY_MISMATCH: Final = Text("the line says {said}, the key inside is {found}", "copy the line again from the .pub file")
KEY_RSA_SHORT: Final = Text("an RSA key of {bits} bits is too short", "make a new key: ssh-keygen -t ed25519")
KEY_RSA_WEAK: Final = Text(
    "an RSA key of {bits} bits will not be good for long", "make a new key: ssh-keygen -t ed25519", "warning"
)
KEY_TEMPLATE: Final = Text(
    "this is the key of the template: nobody has its other half, nobody could log in",
    "put your own public key here",
    "warning",
)

# Networks.
NETWORK: Final = Text("`{value}` is not a network", "as in 203.0.113.0/24, 2001:db8::/32, or one address")
NETWORK_NAME: Final = Text(
    "`{value}` is a name; the firewall takes addresses only",
    "write the address or network, as in 203.0.113.7",
)
NETWORK_BITS: Final = Text(
    "`{value}` has bits set beyond its prefix",
    "write {network} for the network, or {address} for the one address",
)
ALLOW_NONE: Final = Text(
    "an empty list: nobody could log in", "remove the key to allow SSH from everywhere, or name your networks"
)
ALLOW_UNREACHABLE: Final = Text(
    "no client can have an address in any of these: nobody could log in",
    "name the networks that you come from, or remove the key to allow SSH from everywhere",
)
IGNORE_ALL: Final = Text("with {network} nobody is ever banned", "name only your own networks", "warning")
ALLOW_DOMAIN: Final = Text("no stack has the domain {domain}", "known here: {known}")
ALLOW_PATH: Final = Text(
    "`{value}` is not the beginning of a path",
    "a slash and letters, digits or ._~- as they stand in the address, as in /wp-content/",
)
EGRESS_REFUSED: Final = Text(
    "{network} is refused to every stack: link-local and metadata addresses give out credentials",
    "take this rule out",
)
EGRESS_WILDCARD: Final = Text(
    "`{value}` is a wildcard: nobody can ask which addresses it stands for",
    "name each host, or the network that they are in, as in 203.0.113.0/24",
)
EGRESS_NAME: Final = Text(
    "`{value}` is not the full name of a host",
    "as in db.example.com: without port or path, at most 63 characters between dots; ports go into `ports`",
)
EGRESS_LOOPBACK: Final = Text(
    "{network} is the host itself, stacks may not reach it",
    "put services that belong together into one stack",
)

# TLS and proxy.
EMAIL: Final = Text("`{value}` is not an e-mail address", "as in ops@your-domain.org")
EMAIL_EXAMPLE: Final = Text(
    "Let's Encrypt refuses addresses at {domain}", "write a real address, or remove the key", "warning"
)
CA_NAME: Final = Text("`{value}` is not a CA", "one of {known}, or the https:// address of an ACME directory")
CA_NAME_NEAR: Final = Text("`{value}` is not a CA", "did you mean `{near}`?")
CA_HTTP: Final = Text(
    "an ACME directory is reached by https://", "write https:// and check that the directory answers there"
)
CA_URL: Final = Text("`{value}` is not the address of an ACME directory", "as in https://acme.example.com/directory")
CA_ROOT_UNUSED: Final = Text(
    "`ca_root` goes with an ACME directory of your own",
    "set `ca` to its https:// address, or remove `ca_root`",
)
CA_ROOT_MISSING: Final = Text("there is no file {path}", "the path is relative to the spec")
CA_ROOT_FORM: Final = Text(
    "{path} is not a certificate in PEM form",
    "it starts with -----BEGIN CERTIFICATE-----; a private key has no place in it",
)
DOMAIN_PRIVATE: Final = Text(
    "no public CA gives a certificate for {domain}",
    "set `tls: {{ca: internal}}`, or use a public domain",
    "warning",
)

# AWS.
AWS_REGION: Final = Text(
    "`{value}` is not a region of AWS", "as in eu-central-1; one zone of it, as eu-central-1a, is not meant"
)
AWS_TYPE: Final = Text("`{value}` is not an instance type of AWS", "as in t3.small or t4g.small")
AWS_MEMORY: Final = Text(
    "{type} has {has} GB of memory, and what is known of the images here needs a server with {least} GB",
    "`er check` says which want how much; a type with {least} GB, or fewer stacks",
    "warning",
)

# Stacks.
STACK_NAME: Final = Text(
    "`{value}` is not a name for a stack",
    "lower case letters, digits and `-`, a letter first, no `-` at the end, at most 24 characters",
)
STACK_PROXY: Final = Text("`proxy` is the name of the reverse proxy's own user", "choose another name")
STACK_DEPLOY: Final = Text("er-deploy is the group of those who may only deploy", "choose another name")
STACK_TWICE: Final = Text(
    "a second stack with the name `{name}`", "the first one is on line {line}; each has a name of its own"
)
STACK_NEITHER: Final = Text(
    "neither `compose`, `image` nor `build`",
    "write `compose: {name}/compose.yaml`, or `image:` (or `build: .`) with `domain:` and `port:`",
)
STACK_BOTH: Final = Text(
    "`{one}` and `{other}` together",
    "keep one: `image` and `build` are the short form of a stack of one service, pulled or built",
)
STACK_COMPOSE_PUBLIC: Final = Text(
    "`{name}` beside `compose`", "say which service it is for: public: {{SERVICE: {{{key}: …}}}}"
)
STACK_COMPOSE_KEY: Final = Text("`{name}` beside `compose`", "write it in {compose}, at the service it is for")
STACK_PUBLIC: Final = Text(
    "`public` goes with `compose`", "the stack has one service: write `domain` and `port` beside `image`"
)
STACK_DOMAIN: Final = Text(
    "no `domain`: nobody could reach this service",
    "as in `domain: {name}.example.com`; a service without one needs a compose file",
)
DOMAIN_AND_DOMAINS: Final = Text("`domain` and `domains` together", "put them all into `domains`")
DOMAIN_TWICE: Final = Text(
    "`{domain}` goes to another service already",
    "that one is at {place}; a `path` at one of them, as in `path: /api`, parts the domain between the two",
)
DOMAIN_LISTED_TWICE: Final = Text("`{domain}` is there already", "the first is at {place}; keep one of them")
DOMAIN_OTHER_STACK: Final = Text(
    "`{domain}` belongs to another stack already",
    "that one is at {place}; to a browser one name is one site, with the same cookies: what shares a domain by paths "
    "is in one stack",
)
PATH_TWICE: Final = Text(
    "{domain}{path} goes to another service already", "that one is at {place}; each path goes to one service"
)
PATH_NO_ROOT: Final = Text(
    "{domain} answers 404 to all but what is below {paths}",
    "give it a service without `path` if it has a front page",
    "warning",
)
STRIP_ALONE: Final = Text("`strip_path` without a `path` to strip", "write the path as well, as in `path: /api`")
REDIRECT_SERVED: Final = Text(
    "{domain} leads to another name, and is served as well", "the other place is {place}; keep one of them"
)
REDIRECT_TWICE: Final = Text("{domain} leads to another name already", "that is said at {place}; keep one of them")
HEADER_TWICE: Final = Text("the header {name} is there twice", "names of headers have no case; keep one of them")
PORT_LOW: Final = Text(
    "must be {limit} or above, rootless containers cannot bind lower ports",
    "Caddy holds 80 and 443; give the app a high port",
)
PORT_HIGH: Final = Text("must be {limit} or below, there are no higher ports")
UID_RANGE: Final = Text(
    f"must be from {user.FIRST_UID} to {user.LAST_UID}, the uids of stacks",
    "leave it out: the uid comes from the name",
)
UID_TAKEN: Final = Text("the uid {uid} belongs to stack `{other}`", "write `uid: {free}` in stack `{name}`")
BUILD_UID: Final = Text(
    "what `{name}` builds on the server has the uid {uid}, as `{other}` has", "write `uid: {free}` in stack `{name}`"
)
UID_COLLISION: Final = Text(
    "the names `{name}` and `{other}` give the same uid {uid}", "write `uid: {free}` in stack `{name}`"
)
COMPOSE_MISSING: Final = Text("there is no file {path}", "the path is relative to the spec")
COMPOSE_MISSING_NEAR: Final = Text("there is no file {path}", "there is {near}")
COMPOSE_OVERRIDE: Final = Text(
    "{path} lies beside it and is laid over it, as docker compose does",
    "a list names exactly the files that count: compose: [{compose}]",
    "warning",
)
COMPOSE_DIRECTORY: Final = Text("{path} is a directory", "name the file, as in {example}")
ENV_NAME: Final = Text("`{value}` is not the name of a variable", "letters, digits and `_`, no digit first")
ENV_RESERVED: Final = Text("variables with `EASYRUNNER_` are set by er", "choose another name")
ENV_SECRET: Final = Text(
    "this looks like a secret: user-data can be read by whatever reaches the metadata address",
    "use `secret_env: {{web: [{name}]}}` in this stack, or `secrets:` for a file; the value is set on the server",
    "warning",
)
MEMORY_FORM: Final = Text("`{value}` is not a size", "as in 512M or 2G")
MEMORY_SMALL: Final = Text(
    "{value} is too little for a container to start", "16M at least; a number without a unit counts bytes"
)
CAPABILITY: Final = Text("`{value}` is not a capability", "as in NET_BIND_SERVICE or CHOWN")
CAPABILITY_NEAR: Final = Text("`{value}` is not a capability", "did you mean `{near}`?")
CAPABILITY_ALL: Final = Text("all capabilities are never given", "name those that the app needs")
VOLUME_FORM: Final = Text("`{value}` is not a volume", "as in data:/var/lib/app, or data:/var/lib/app:ro")
VOLUME_BIND: Final = Text(
    "only named volumes here, no paths of this machine",
    "write data:/path; to bring files along, use a compose file",
)
TMPFS_FORM: Final = Text("`{value}` is not a tmpfs", "as in /run/app, or /run/app:size=64m")
SECRET_NAME: Final = Text(
    "`{value}` is not the name of a secret", "letters, digits, `.`, `_` and `-`, as in db_password"
)
SECRET_SOURCE: Final = Text(
    "neither the name of a secret nor a text with one in braces",
    'as in db_password, or "postgres://app:{{db_password}}@db/app"; a brace as such is written twice',
)
SECRET_SERVICE: Final = Text("the stack has no service {name}", "it has: {known}")
SECRET_ENV_TWICE: Final = Text(
    "{name} is in `environment` and in `secret_env`", "keep one: what is a secret has no value here"
)
SECRET_BUILT: Final = Text(
    "{name} is made on the server, of other secrets, for {service} alone",
    "write the text that it is made of here as well; it may be the same",
)
REGISTRY: Final = Text(
    "`{value}` is not the name of a registry", "as in ghcr.io or registry.example.com:5000: no https://, no path"
)
REGISTRY_DOCKER: Final = Text("images name Docker Hub docker.io, not {value}", "write docker.io")
REGISTRY_EMPTY: Final = Text("says nothing of this registry", "as in `{{username: me}}`, or `{{mirrors: […]}}`")
REGISTRY_USERNAME: Final = Text(
    "`{value}` is not a user name at a registry", "one word without a colon; its password is never written here"
)
REGISTRY_PASSWORD: Final = Text(
    "a password has no place here: user-data can be read by others",
    "take it out; once the server is up: er server registry login HOST REGISTRY",
)
REGISTRY_ROLE: Final = Text(
    "{registry} is no private registry of Amazon ECR, and the server's role logs in nowhere else",
    "as in 123456789012.dkr.ecr.eu-central-1.amazonaws.com: aws; elsewhere write {{username: me}}",
)
REGISTRY_PUBLIC: Final = Text("{registry} gives its images to anybody, without a login", "take it out")
REGISTRY_PRIVATE: Final = Text(
    "{registry} gives no image to who is not logged in",
    "write registries: {{{quoted}: {settings}}}; {then}",
    "warning",
)
REGISTRY_UNUSED: Final = Text("no image comes from {registry}", "images come from: {known}", "warning")
DEPLOY_NONE: Final = Text(
    "no SSH key: nobody could deploy this stack",
    "make one for your CI: ssh-keygen -t ed25519 -N '' -f ci; its public half, ci.pub, goes here",
)
DEPLOY_KEY_TAKEN: Final = Text(
    "this is a key of the stack {owner} too: sshd takes the first line of a key, so it could not deploy {stack}",
    "make a key for this stack alone: ssh-keygen -t ed25519 -N '' -f ci",
)
DEPLOY_KEY_ADMIN: Final = Text(
    "this key is the admin's: whoever has it opens the whole server, and not this stack alone",
    "make a key for this stack alone: ssh-keygen -t ed25519 -N '' -f ci",
)
DEPLOY_BRANCH: Final = Text("`{value}` is not the name of a branch", "as in main, or release/web")
DEPLOY_GIT: Final = Text(
    "what is pushed is built, and nothing of this stack is: all its images come from elsewhere",
    "write build: DIR in place of the image, or take `git` out; er deploy HOST STACK --image REF deploys an image",
)
DEPLOY_ADMIN: Final = Text("`deploy` is the login of those who may only deploy", "choose another name, as in er or ops")
DEPLOY_ALLOW: Final = Text(
    "SSH answers to these networks alone, so no deploy key works from elsewhere: hosted CI has no fixed addresses",
    "remove allow_from, or run the CI that deploys within these networks",
    "warning",
)
MIRROR: Final = Text(
    "`{value}` is not the address of a mirror", "as in mirror.example.com, or registry.example.com:5000/docker-hub"
)
EGRESS_MISSING: Final = Text(
    "the firewall refuses this stack what its environment names: {found}",
    "if the app is to reach it, write in this stack: egress: [{rules}]",
    "warning",
)
EGRESS_NONE: Final = Text(
    "with no way out, images are not fetched either, as a stack's own user fetches them: {images}",
    "leave `egress` out until the server has them, or bring each as oci-archive:PATH",
    "warning",
)
MAX_BODY: Final = Text("`{value}` is not the size of a request", "as in 10G, or none for no limit")
TIMEOUT_OR_NONE: Final = Text("`{value}` is not a time", "as in 5m, or none to wait for ever")
DURATION: Final = Text("`{value}` is not a time", "as in 30s or 1m30s")
AGE: Final = Text("`{value}` is not an age", "hours, days or weeks, as in 12h, 7d or 2w")
HEALTHCHECK_TEST: Final = Text(
    "CMD takes a command after it, CMD-SHELL one line", 'as in [CMD, wget, -q, "http://localhost:8080/"]'
)

# Backups. A secret has no place in any of them.
BACKUP_TO: Final = Text(
    "`{value}` is no place for backups",
    "s3:https://ENDPOINT/BUCKET/PATH, s3://BUCKET/PATH, sftp:USER@HOST:/PATH, rest:https://HOST/PATH, or a directory",
)
BACKUP_PASSWORD: Final = Text(
    "a password has no place here", "take it out, and set it there: er server secret set HOST --host NAME", secret=True
)
BACKUP_HERE: Final = Text("{value} goes with this host", "a directory of a disk that is mounted there, as /mnt/backup")
BACKUP_AT: Final = Text("`{value}` is not a time of day", 'hours and minutes, quoted, as in "03:30"')
BACKUP_KEEP_NONE: Final = Text("no snapshot would be kept", "write at least one number above 0, or remove `keep`")
BACKUP_APPEND_KEEP: Final = Text(
    "`keep` beside `append_only`: this host removes no snapshot",
    "remove `keep`; elsewhere, with keys that may: restic forget --keep-daily 7 --group-by host,tags --prune",
)
BACKUP_HTTP: Final = Text(
    "without TLS: what is stored is encrypted, the rest is not", "write https:// if it can", "warning"
)
BACKUP_HOST_KEY: Final = Text("not a public host key", "type and key, as ssh-keyscan prints them: ssh-ed25519 AAAA…")
BACKUP_HOST_KEY_NONE: Final = Text(
    "the first host key that this server shows would be believed",
    "write backup: {{host_key: …}}, the key in its /etc/ssh/ssh_host_ed25519_key.pub",
    "warning",
)
BACKUP_HOST_KEY_UNUSED: Final = Text("`host_key` goes with SFTP", "remove it, or write `to: sftp:USER@HOST:/PATH`")
BACKUP_NONE: Final = Text("the host has no backup", "write `backup: {{to: …}}` at the top of the spec", "warning")
BACKUP_TORN: Final = Text(
    "files of {services} that are copied while it runs may not fit together",
    "write in this stack: backup: {{stop: true}}, or backup: {{before: {{{service}: [COMMAND]}}}} that prints a dump",
    "warning",
)
BACKUP_NAME: Final = Text(
    "`host` is what backups call what belongs to no stack", "choose another name, or leave it out: backup: false"
)
