"""Every text of `er init --compose`: what it decided and why, what it asks, and what it cannot do."""

from __future__ import annotations

from typing import Final

from builder.messages import Text

# What `--compose` names.
COMPOSE_NOT_THERE: Final = Text("there is no {path}", "name a Compose file, or a directory that has one")
COMPOSE_NONE: Final = Text(
    "{path} has no Compose file, and no directory in it has one",
    "it is called compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml; name any other yourself",
)
COMPOSE_MIXED: Final = Text(
    "--compose has files and directories",
    "of several files each is laid over those before it and all are one stack; a directory is its own stack, or has "
    "one in each directory in it",
)

# What `--domain` names.
DOMAIN_FORM: Final = Text("--domain {given}: {fault}", "{hint}")
DOMAIN_TARGET: Final = Text(
    "--domain {given}: `{target}` is no service", "as in --domain example.com=web, or --domain example.com=web:8080"
)
DOMAIN_PORT: Final = Text("--domain {given}: a port is a number from 1 to 65535", "as in --domain example.com=web:8080")
DOMAIN_TWICE: Final = Text("--domain names {domain} twice", "one domain goes to one service")
DOMAIN_STACK: Final = Text("--domain {given}: there is no stack {stack}", "there are {known}")
DOMAIN_SERVICE: Final = Text("--domain {given}: there is no service {service} in {compose}", "it has {known}")
DOMAIN_PORTS: Final = Text(
    "--domain gives {service} the ports {ports}", "one service has one port; write it at one of its domains"
)
DOMAIN_LABEL: Final = Text(
    "--domain {given}: {service} has the domain {label} by its label xyz.easyrunner.service.domain",
    "leave --domain out, or take the label away: a second file that says services: {{{service}: {{labels: "
    "!override {{}}}}}} does that, given by a second --compose",
)

DOMAIN_PORT_LABEL: Final = Text(
    "--domain {given}: {service} has the port {label} by its label xyz.easyrunner.service.port", "leave :{port} out"
)

# What is not clear, as a question and as an error.
ASK_DOMAIN: Final = Text("stack {stack} has no domain", "{ways}")
ASK_STACK: Final = Text("which stack is {domain} for?", "{ways}")
ASK_SERVICE: Final = Text("which service of {stack} answers {domain} is not clear", "{ways}")
ASK_PORT: Final = Text("no port is named for {service} of {stack}", "{ways}")
ASK_PORTS: Final = Text("which port of {service} of {stack} is the web's is not clear", "{ways}")
NO_CANDIDATE: Final = Text(
    "no service of {stack} can be the one for {domain}", "say which: --domain {domain}=SERVICE:PORT; it has {known}"
)
NOTHING_STARTED: Final = Text(
    "no service of {stack} is started: each belongs to a profile, or has no containers",
    "name the profiles that should run in the file .env beside it, as in COMPOSE_PROFILES=a,b",
)
ANSWER_NUMBER: Final = "a number from 1 to {most}"
ANSWER_PORT: Final = "a port from 1 to 65535"

# Reasons: why a service is taken for the web's.
LABEL_TYPE: Final = "its labels say so"
EDGE_LABEL: Final = "its label {label} is for a proxy before it"
EDGE_HOST: Final = "{place} names {host}"
PUBLISHES: Final = "publishes {ports}"
PUBLISHES_OTHERS: Final = "publishes nothing that a browser speaks"
EXPOSES: Final = "exposes {ports}"
IMAGE_WEB: Final = "its image listens on {port}"
NAMED: Final = "is called {name}"
NAMED_INNER: Final = "is called {name}, as what works behind the web's"
LAST: Final = "no other service waits for it"
WAITED_FOR: Final = "waited for by {services}"
IMAGE_INNER: Final = "its image works for other services"
IMAGE_ADMIN: Final = "its image is a tool for who looks after others"
IMAGE_FASTCGI: Final = "its image speaks FastCGI, for a web server beside it"
JOB: Final = "others wait for its end"
ONLY: Final = "the only one that can be"
ASKED: Final = "as asked for"

# Reasons: why a port is taken.
PORT_LABEL: Final = "its label {label}"
PORT_VARIABLE: Final = "its variable {variable}"
PORT_PUBLISHED: Final = "it is published as {published}"
PORT_OF: Final = {"ports": "from `ports`", "expose": "from `expose`", "image": "this image listens there"}
PORT_HEALTH: Final = "its health check asks there"
PORT_COMMAND: Final = "its command says so"

# Secrets: where one comes from.
FROM_VARIABLE: Final = "${{{name}}} in the file"
FROM_DOTENV: Final = "${{{name}}} in the file, with a value in .env"
FROM_VALUE: Final = "a value in the file, which is best set anew"
FROM_VALUE_ALONE: Final = (
    "a value in the file that no other service names: who connects may have it built in, so set the same again"
)
FROM_DATABASE: Final = "{database} and who connects to it have one password"
FROM_OUTSIDE: Final = "what {host} outside of the stack has"
FROM_DECLARATION: Final = "`secrets:` of the file"
KEPT_VARIABLE: Final = (
    "{name} stays in the clear, and in user-data: {place} needs it too, where no secret can be. Where it has no value, "
    "put it in .env"
)
KEPT_VALUE: Final = (
    "the value of {name} of {service} stays in the clear, and in user-data: a command or health check of the file has "
    "it too, where no secret can be"
)

UNSET_BESIDE: Final = (
    "{name} of {service} is a text in the spec from now on, in which {unset} is empty: set it in .env and make the "
    "spec anew, or write it there"
)

# What else is worth knowing.
OVERRIDE: Final = "{path} is laid over it, as docker compose does"
FILES_BESIDE: Final = "not taken: {names} (each is laid over the others when --compose names it too)"
DIRECTORY_SKIPPED: Final = "no Compose file in {names}"
DIRECTORY_INNER: Final = "{directory} is one stack by its own {name}: what is in its directories is not looked at"
EDGE_UNNEEDED: Final = (
    "{service} is a proxy for the whole host, which EasyRunner has: nothing needs it here. What takes it away, in a "
    "file of your own given by a second --compose: services: {{{service}: !reset null}}"
)
NOTHING_PUBLIC: Final = "nothing of it is public: --domain NAME={target} makes a service so"
ALSO_PUBLISHES: Final = "{service} publishes a port too; --domain NAME={target} makes it public"
ALSO_NAMED: Final = "{service} is {host} for a proxy before it; --domain {host}={target} makes it public"
PROTOCOL_TLS: Final = (
    "{port} of {service} is HTTPS as a rule; Caddy speaks HTTP to it: let it serve HTTP, or name that port"
)
FILES_IN_DOTENV: Final = ".env says COMPOSE_FILE={names}: docker compose takes those files, here --compose names them"
ENV_EXAMPLE: Final = "{name} lies beside and .env does not: copy it to .env, and set its values"
LOGIN_BY_ROLE: Final = (
    "{registry} wants a login: as the spec has it, the server's role logs in, on EC2; elsewhere write {{username: AWS}}"
)
LOGIN_NEEDED: Final = "{registry} wants a login: write registries: {{{registry}: {settings}}}"
LOGIN_MAYBE: Final = "should {image} be private, write registries: {{{registry}: {{username: {owner}}}}}"
UNSET_REQUIRED: Final = "without a value in .env, and required: {names}"
UNSET_EMPTY: Final = "without a value in .env, so empty: {names}"
NOT_USED: Final = "what you do not use, such as a mail server's password, is waited for: take its line out of the spec"
KEY_TAKEN: Final = "admin key: {path}"
KEY_MISSING: Final = "admin key: put your own into the spec, the one in it is nobody's"
