"""Texts of problems that spec and Compose files share; the rest is in spec/messages.py and compose/messages.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.problems import Problem

if TYPE_CHECKING:
    from builder.problems import Mark, Report, Severity


@dataclass(frozen=True)
class Text:
    """What the user reads: `message` is the rule, `hint` the way out. Fields as `{name}` are filled in with values.

    `once`: of all places with the same text, only the first is shown. `secret`: the line in the file is not shown.
    """

    message: str
    hint: str | None = None
    severity: Severity = "error"
    once: bool = False
    secret: bool = False

    def at(self, where: str, mark: Mark | None, **values: object) -> Problem:
        """This text as a problem at one place."""
        hint = None if self.hint is None else self.hint.format(**values)
        return Problem(self.severity, where, self.message.format(**values), mark, hint, secret=self.secret)

    def add_to(self, report: Report, where: str, mark: Mark | None, **values: object) -> None:
        """Add this text to a report, as a problem at one place."""
        report.extend([self.at(where, mark, **values)])


# Files as such.
FILE_MISSING: Final = Text("there is no file {path}", "look at the path; `er init` writes a spec to start from")
FILE_UNREADABLE: Final = Text("{path} cannot be read: {reason}")
FILE_EMPTY: Final = Text("the file is empty")
FILE_ENCODING: Final = Text("the file is not UTF-8 text", "save it as UTF-8 in your editor")

# YAML: what cannot be parsed at all.
YAML_TAB: Final = Text("a tab stands where YAML wants spaces", "indent with spaces, two for each level")
YAML_INDENT: Final = Text(
    "this line does not fit under the lines above",
    "keys of one mapping, and the dashes of one list, start in one column; or the line above lacks its `:`",
)
YAML_COLON: Final = Text(
    "a second `: ` in one line",
    'quote the value, as in key: "a: b", or give the second key a line of its own',
)
YAML_NO_COLON: Final = Text("a key without its `:`", "write `key: value`, with a space after the colon")
YAML_UNCLOSED_QUOTE: Final = Text("a quote is opened here and never closed", "close it on the same line")
YAML_UNCLOSED_BRACKET: Final = Text(
    "a bracket is opened here and not closed", "separate the values with commas and close with ] or }}"
)
YAML_START: Final = Text("a value cannot start with `{character}`", "put the value in quotes")
YAML_ESCAPE: Final = Text(
    "an unknown escape after the backslash", "use single quotes, in which a backslash is only a backslash"
)
YAML_CHARACTER: Final = Text(
    "the character {code} is not allowed in YAML", "delete it, it may be invisible in your editor"
)
YAML_ANCHOR_UNKNOWN: Final = Text(
    "there is no anchor `&{name}` above this line", "define it before it is used, or quote a leading *"
)
YAML_DOCUMENTS: Final = Text("a second YAML document starts here", "keep one: remove this `---` and what follows")
YAML_PRIVATE_KEY: Final = Text(
    "a private key stands in this file",
    "take it out, only public keys belong here; if this file was ever shared or committed, make a new key",
)
YAML_SYNTAX: Final = Text("this is not YAML: {reason}")

# YAML: what parses, and should not go on.
YAML_DEPTH: Final = Text("nested deeper than {limit} levels")
YAML_TOO_MANY: Final = Text("the aliases of this file unfold to more than {limit} values")
YAML_ANCHOR_LOOP: Final = Text("the anchor is used inside itself")
YAML_TAG: Final = Text("the tag `{tag}` has no meaning here", "remove it; to make a value text, quote it")
YAML_DUPLICATE: Final = Text("`{key}` is written twice here", "the first one is on line {line}; keep one of them")
YAML_KEY: Final = Text("a key must be text", "quote it: {quoted}")
YAML_KEY_NESTED: Final = Text(
    "a key must be text, not a list or a mapping", "a value in curly brackets has to be quoted"
)
YAML_MERGE: Final = Text("`<<` takes a mapping, or a list of mappings", "as in `<<: *name`")

# YAML: plain values that YAML 1.1 and 1.2 read differently.
YAML_BOOL: Final = Text(
    "`{value}` is a word for some YAML readers and true or false for others",
    "write true or false; if you mean the word, quote it: {quoted}",
)
YAML_OCTAL: Final = Text("`{value}` is another number in octal, and YAML readers disagree", "quote it: {quoted}")
YAML_BASE60: Final = Text("`{value}` is a number in base 60 for some YAML readers", "quote it: {quoted}")
YAML_UNDERSCORE: Final = Text(
    "`{value}` is a number for some YAML readers and text for others",
    "write the number without `_`; if you mean the text, quote it: {quoted}",
)
YAML_NUMBER: Final = Text(
    "`{value}` is a number for some YAML readers and text for others",
    "write a plain decimal number; if you mean the text, quote it: {quoted}",
)
YAML_DATE: Final = Text("`{value}` is a date for some YAML readers and text for others", "quote it: {quoted}")

# Images.
IMAGE_EMPTY: Final = Text("the image has no name", "as in docker.io/library/caddy:2.11")
IMAGE_CAPABILITIES: Final = Text(
    "this image starts as root and becomes a user of its own, which it cannot without capabilities",
    "add cap_add: [{capabilities}] to {service}",
    "warning",
)
IMAGE_STRICT: Final = Text(
    "this image starts as root and becomes a user of its own, which it cannot under `strict`",
    "give {service} the level `standard`, or cap_add: [{capabilities}]",
    "warning",
)
IMAGE_TRANSPORT: Final = Text("`{transport}` is not read", "write the image without it, as in {example}")
IMAGE_ARCHIVE_MISSING: Final = Text("there is no archive {path}", "the path is relative to the file that names it")
IMAGE_ARCHIVE_EMPTY: Final = Text("`oci-archive:` needs a path", "as in oci-archive:images/app.tar")
IMAGE_CASE: Final = Text("the name of an image is lower case", "write {lower}")
IMAGE_TAG: Final = Text("`{tag}` is not a tag", "letters, digits, `_`, `.` and `-`, 128 at most, as in :2.11")
IMAGE_DIGEST: Final = Text("`{digest}` is not a digest", "it is sha256: and 64 hexadecimal digits")
IMAGE_REGISTRY: Final = Text(
    "`{registry}` is not the address of a registry", "as in docker.io or registry.example.com:5000"
)
IMAGE_NAME: Final = Text("`{name}` is not the name of an image", "as in docker.io/library/caddy:2.11")
IMAGE_LOCAL: Final = Text(
    "`localhost/` names an image of one machine's own store, the server cannot pull it",
    "push it to a registry, or save it with `podman save --format oci-archive` and write oci-archive:PATH",
)
IMAGE_VARIABLE: Final = Text("variables are not filled in here", "write the image out; compose files may use variables")
IMAGE_LATEST: Final = Text(
    "`latest` is another image every day: two servers from one file may differ",
    "pin a version, as in {name}:1.2.3",
    "warning",
)
IMAGE_UNTAGGED: Final = Text(
    "no tag, so `latest` is taken: another image every day", "pin a version, as in {name}:1.2.3", "warning"
)
IMAGE_READ_ONLY: Final = Text(
    "this image writes to {paths}, and under `strict` its root is read-only",
    "give {service} the level `standard`, or volumes there",
    "warning",
)
IMAGE_RUNS_FROM_TMP: Final = Text(
    "this image loads code that it unpacks into /tmp, and nothing there can be executed",
    'write tmpfs: ["/tmp:exec"] for {service}, or mount a volume at /tmp',
    "warning",
)

# Builds.
BUILD_CONTEXT: Final = Text(
    "there is no directory {context} to build from", "the path is relative to the file that names it"
)
BUILD_REMOTE: Final = Text(
    "{context} is not a directory of this machine", "clone it beside this file, and name the directory"
)
BUILD_NO_FILE: Final = Text(
    "{context} has no Containerfile or Dockerfile to build from",
    "write {path}; its first line is as in FROM docker.io/library/debian:13",
)
BUILD_FILE_MISSING: Final = Text(
    "there is no file {path} in {context} to build from", "the path is relative to the context"
)

# Domains.
DOMAIN_EMPTY: Final = Text("the domain is empty")
DOMAIN_SCHEME: Final = Text("a domain has no `{scheme}`", "write {rest}; HTTPS is always on")
DOMAIN_PATH: Final = Text("a domain has no path", "write {rest}, and the path as `path: /…` beside it")
DOMAIN_PORT: Final = Text("a domain has no port, the world comes in by 80 and 443", "write {rest}")
DOMAIN_SEVERAL: Final = Text("this is more than one domain", "write a list: {listed}")
DOMAIN_WILDCARD: Final = Text(
    "a wildcard needs a certificate by DNS challenge, for which this host would hold a key to your DNS zone",
    "name each domain: each gets a certificate of its own, and `redirect_from` leads further names to the first",
)
DOMAIN_ADDRESS: Final = Text(
    "an IP address is no domain", "certificates are for names: point a DNS record at the server"
)
PATH_FORM: Final = Text(
    "`{value}` is not a path",
    "a slash and words of letters, digits or ._~- between slashes, as in /api: it stands for everything below too",
)
HEADER_NAME: Final = Text("`{value}` is not the name of a header", "letters, digits and `-`, as in X-Frame-Options")
HEADER_PROXYS: Final = Text(
    "{name} is not set here: it holds for one connection, says how an answer is read, or is the proxy's own",
    "take it out; what the app itself says of it stays",
)
HEADER_BRACES: Final = Text(
    "no braces in a header here: to Caddy they stand for values of the host",
    "let the app itself set a header that needs them",
)
HEADER_VALUE: Final = Text(
    "this is not the value of a header",
    "one line of ASCII without blanks at its ends, not a backtick and a backslash together; null removes a header",
)
AUTH_USER: Final = Text(
    "`{value}` is not a user name here", "letters, digits, `.`, `_`, `@` and `-`, as in alice", secret=True
)
AUTH_HASH: Final = Text(
    "not a bcrypt hash; a password itself has no place in a spec",
    "make the hash: htpasswd -nBC 12 NAME (what follows the colon), or caddy hash-password",
    secret=True,
)
AUTH_COST: Final = Text(
    "a bcrypt hash of cost {cost}", "10 to 14: less is guessed too fast, more takes the proxy seconds", secret=True
)
DOMAIN_DOT: Final = Text("a domain has no dot at its end here", "write {rest}")
DOMAIN_CASE: Final = Text("a domain is lower case", "write {lower}")
DOMAIN_UNICODE: Final = Text("a domain is written in ASCII", "in punycode this one is {punycode}")
DOMAIN_UNDERSCORE: Final = Text("`_` is not allowed in the name of a web host", "use `-`")
DOMAIN_ONE_LABEL: Final = Text(
    "`{value}` is not a full domain", "as in {value}.example.com, or {value}.localhost to try it here"
)
DOMAIN_FORM: Final = Text(
    "`{value}` is not a domain",
    "labels of letters, digits and `-`, at most 63 characters each, joined by dots",
)

# Sleep.
SLEEP_RANGE: Final = Text("sleep after 1m at least, and 168h at most", "as in 15m")
WAKE_FORM: Final = Text(
    "`{value}` is neither a path nor a method",
    "as in /app/* for all below it, / for the front page alone, or POST",
)
WAKE_TIMEOUT_RANGE: Final = Text("a visitor is held for 5s at least, and 10m at most", "as in 90s")
SLEEP_WANTED: Final = Text("`{key}` goes with `sleep`", "write `sleep: 15m` as well, or take it out")
SLEEP_ALONE: Final = Text(
    "{service} is no public service, and no public one of the stack sleeps: nobody would wake it",
    "let the public service sleep, as in xyz.easyrunner.service.sleep: 15m, or take it out",
)
