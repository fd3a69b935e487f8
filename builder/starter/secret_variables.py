"""Which variables of a stack are secrets, and which of them are one: the `secret_env` of its spec.

A secret is what its name says (DB_PASSWORD), or a password in a URL; its value is in the file, in `.env`, or nowhere
yet. One variable that is filled in at several places is one secret, so is a database's password with that of who
connects to it, and one value under one name. What a command or a health check needs as well cannot be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.compose.environment import doubled, is_secret, names_secret, passwords_inside, secret_of_host
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.survey import expanded, variables
from builder.starter import databases, messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.compose.survey import ServiceFacts, Setting, Survey


@dataclass(frozen=True)
class ProposedSecret:
    """A secret to be set on the server: `uses` are (service, variable), `sources` say where it comes from.

    `by_hand`: its value comes from elsewhere, or has a form of its own, so that a random one would not do. `variables`
    are those that the file fills in.
    """

    name: str
    uses: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    by_hand: bool = False
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecretEnv:
    """`section` is what the spec says, by service and variable; `kept` are sentences on what stays in the clear."""

    section: dict[str, dict[str, str]]
    secrets: tuple[ProposedSecret, ...]
    kept: tuple[str, ...]


class _Atom(NamedTuple):
    """One password as the file has it: a variable that is filled in, or a value under a name or for a host."""

    kind: str
    name: str
    value: str = ""


@dataclass
class _Use:
    """A variable of a service that has a secret: its text in pieces, passwords as atoms."""

    service: ServiceFacts
    variable: str
    pieces: list[str | _Atom]

    @property
    def atoms(self) -> list[_Atom]:
        return [piece for piece in self.pieces if isinstance(piece, _Atom)]

    @property
    def whole(self) -> bool:
        """Whether it is the password and nothing else."""
        return len(self.pieces) == 1


def propose(survey: Survey) -> SecretEnv:
    """The secrets of a stack."""
    secret, clear = _secret_variables(survey)
    kept = [messages.KEPT_VARIABLE.format(name=name, place=" and ".join(survey.outside[name][:2])) for name in clear]
    uses = []
    for service in survey.services:
        for name, setting in service.settings.items():
            if {*clear} & {*variables(setting.template)}:
                continue
            use = _Use(service, name, _pieces(name, setting, secret, survey))
            if not use.atoms:
                continue
            if any(_is_elsewhere(atom.value, survey) for atom in use.atoms):
                kept.append(messages.KEPT_VALUE.format(name=name, service=service.name))
            elif not any(isinstance(piece, str) and not piece.isprintable() for piece in use.pieces):
                uses.append(use)
                kept += _unset_beside(use, setting, secret, survey)
    groups = _Groups(uses)
    groups.join_databases(survey)
    names = groups.names()
    section: dict[str, dict[str, str]] = {}
    for use in uses:
        section.setdefault(use.service.name, {})[use.variable] = _source(use, names)
    return SecretEnv(section, groups.proposed(names, survey), tuple(dict.fromkeys(kept)))


def _unset_beside(use: _Use, setting: Setting, secret: set[str], survey: Survey) -> Iterator[str]:
    """What is said of other variables in a text that is made of secrets: the spec has the text as it is now."""
    names = [name for name in variables(setting.template) if name not in secret and name in survey.unset]
    if names and not use.whole:
        yield messages.UNSET_BESIDE.format(name=use.variable, service=use.service.name, unset=", ".join(names))


# Variables of the file that are filled in.


def _secret_variables(survey: Survey) -> tuple[set[str], list[str]]:
    """The variables that are filled into the file and are secrets, and those that would be and cannot."""
    secret: set[str] = set()
    for service in survey.services:
        for name, setting in service.settings.items():
            secret.update(one for one in variables(setting.template) if _is_secret_variable(one, name, setting, survey))
    return secret - {*survey.outside}, sorted(secret & {*survey.outside})


def _is_secret_variable(name: str, variable: str, setting: Setting, survey: Survey) -> bool:
    value = survey.lookup(name)
    if value is None:
        value = _default(setting.template, name)
    said = names_secret(name) or (_is_whole(setting.template) and names_secret(variable))
    if said or _is_password_inside(name, setting, survey):
        unset = value is None and (name in survey.unset or setting.value is None)
        return unset or is_secret("SECRET", value or "")
    return False


def _is_whole(template: str) -> bool:
    """Whether a text is one variable and nothing else."""
    return re.fullmatch(r"\$(?:\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*)", template) is not None


def _default(template: str, name: str) -> str | None:
    found = re.search(rf"\$\{{{name}:?-([^}}]*)\}}", template)
    return None if found is None else found[1]


_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED: Final = re.compile(f"{_OPEN}(.*?){_CLOSE}")


def _marked(template: str, secret: Iterable[str], survey: Survey) -> str:
    """A text with its variables filled in, but the secret ones by their names between marks."""
    names = {*secret}

    def lookup(name: str) -> str | None:
        return f"{_OPEN}{name}{_CLOSE}" if name in names else survey.lookup(name)

    try:
        return Expansion(lookup).expand(template)
    except (FormatError, RequiredError):
        return ""


def _is_password_inside(name: str, setting: Setting, survey: Survey) -> bool:
    text = _marked(setting.template, (name,), survey)
    return any(f"{_OPEN}{name}{_CLOSE}" in text[one.start : one.end] for one in passwords_inside(text))


def _pieces(name: str, setting: Setting, secret: set[str], survey: Survey) -> list[str | _Atom]:
    """The text of a variable, with the passwords in it as atoms; without any it is no secret."""
    text = _marked(setting.template, secret, survey)
    found: list[tuple[int, int, _Atom]] = [
        (match.start(), match.end(), _Atom("variable", match[1], _known(match[1], setting, survey)))
        for match in _MARKED.finditer(text)
    ]
    for inside in passwords_inside(text):
        value = text[inside.start : inside.end]
        if _OPEN not in value:
            found.append((inside.start, inside.end, _Atom("url", inside.host or name, value)))
    if not found and setting.value is not None and is_secret(name, text):
        # An env file that is `.env` too has what is filled in elsewhere.
        return [_Atom("variable" if survey.lookup(name) == text else "value", name, text)]
    pieces: list[str | _Atom] = []
    position = 0
    for start, end, atom in sorted(found):
        pieces += [text[position:start], atom]
        position = end
    return [piece for piece in (*pieces, text[position:]) if piece]


def _known(name: str, setting: Setting, survey: Survey) -> str:
    """The value of a secret variable, empty where nobody knows it yet."""
    value = survey.lookup(name)
    return value if value is not None else expanded(_default(setting.template, name) or "", survey.lookup)


# What stands before a password on a command line.
_BEFORE_IT: Final = r"(?:-p|-a\s+|pass(?:word|wd)?[\s=:'\"]+|://[^\s/@]*:)"


def _is_elsewhere(value: str, survey: Survey) -> bool:
    """Whether a value stands in a command or a health check too, as a password."""
    if not value:
        return False
    pattern = re.compile(rf"{_BEFORE_IT}{re.escape(value)}(?![A-Za-z0-9_])", re.IGNORECASE)
    return any(pattern.search(" ".join(service.words)) for service in survey.services)


# What is one secret.


@dataclass
class _Groups:
    """The passwords of a stack, those that are one together."""

    uses: list[_Use]
    first: dict[tuple[str, str, str], _Atom] = field(default_factory=dict)
    leader: dict[_Atom, _Atom] = field(default_factory=dict)
    databases: dict[_Atom, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for use in self.uses:
            for atom in use.atoms:
                # A variable is one password whatever its default is at this place.
                same = (atom.kind, atom.name, "" if atom.kind == "variable" else atom.value)
                self._join(self.first.setdefault(same, atom), atom)

    def _find(self, atom: _Atom) -> _Atom:
        leader = self.leader.setdefault(atom, atom)
        return atom if leader == atom else self._find(leader)

    def _join(self, one: _Atom, other: _Atom) -> None:
        one, other = self._find(one), self._find(other)
        if one != other:
            self.leader[other] = one

    def join_databases(self, survey: Survey) -> None:
        """Who connects to a database has its password, unless the file has another one there."""
        own = self._database_passwords()
        for service, variable, secret in databases.passwords_in_files(survey):
            own.setdefault(service, []).append((variable, _Atom("declared", secret)))
        for use in self.uses:
            for atom in use.atoms:
                if use.service.name not in own:
                    self._join_database(use, atom, own, survey)

    def _database_passwords(self) -> dict[str, list[tuple[str, _Atom]]]:
        found: dict[str, list[tuple[str, _Atom]]] = {}
        for use in self.uses:
            if use.whole and databases.family(use.service.image):
                found.setdefault(use.service.name, []).append((use.variable, use.atoms[0]))
        return found

    def _join_database(self, use: _Use, atom: _Atom, own: dict[str, list[tuple[str, _Atom]]], survey: Survey) -> None:
        if use.whole:
            database = databases.of_variable(use.variable, use.service, survey)
            user = databases.user_of(use.variable, use.service)
        else:
            database = databases.of_host(_host_after(use, atom), survey)
            user = _user_before(use, atom)
        for name, one in own.get(database, ()):
            known = one.value and atom.value
            if databases.is_for_user(name, user) if not known else one.value == atom.value:
                self._join(one, atom)
                self.databases[self._find(one)] = database
                return
        if use.whole and atom.kind == "value" and databases.is_store_key(use.variable):
            stores = [(name, one) for name, passwords in own.items() for _, one in passwords if one.value == atom.value]
            for name, one in stores[:1]:
                self._join(one, atom)
                self.databases[self._find(one)] = name

    def names(self) -> dict[_Atom, str]:
        """The name of the secret of each password; empty where the one variable that has it gives the name."""
        taken = {atom.name for atom in self.leader if atom.kind == "declared"}
        found: dict[_Atom, str] = {}
        for leader, uses in self._by_leader().items():
            if leader.kind == "declared":
                name = leader.name
            else:
                name = "" if len(uses) == 1 and uses[0].whole else self._name(leader, uses, taken)
            taken.add(name)
            found[leader] = name
            found.update({atom: name for use in uses for atom in use.atoms if self._find(atom) == leader})
        return found

    def _by_leader(self) -> dict[_Atom, list[_Use]]:
        found: dict[_Atom, list[_Use]] = {}
        for use in self.uses:
            for atom in dict.fromkeys(self._find(one) for one in use.atoms):
                found.setdefault(atom, []).append(use)
        return found

    def _name(self, leader: _Atom, uses: list[_Use], taken: set[str]) -> str:
        atoms = [atom for use in uses for atom in use.atoms if self._find(atom) == leader]
        variable = next((atom.name for atom in atoms if atom.kind == "variable"), None)
        whole = next((use.variable for use in uses if use.whole and databases.family(use.service.image)), None)
        host = next((atom.name for atom in atoms if atom.kind == "url"), None)
        wanted = variable or whole or (host and secret_of_host(host)) or uses[0].variable
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted).strip("_.-").lower() or "secret"
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        return unique

    def proposed(self, names: dict[_Atom, str], survey: Survey) -> tuple[ProposedSecret, ...]:
        """Every secret, with who has it and where it comes from."""
        return tuple(self._proposed(leader, uses, names[leader], survey) for leader, uses in self._by_leader().items())

    def _proposed(self, leader: _Atom, uses: list[_Use], name: str, survey: Survey) -> ProposedSecret:
        atoms = [atom for use in uses for atom in use.atoms if self._find(atom) == leader]
        sources = [_where_from(atom, survey) for atom in atoms]
        if leader in self.databases and len({atom[:2] for atom in (leader, *atoms)}) > 1:
            sources.append(messages.FROM_DATABASE.format(database=self.databases[leader]))
        own = [use for use in uses if databases.family(use.service.image)]
        alone = len(own) == len(uses) == 1 < len(survey.services) and atoms[0].kind == "value"
        if alone:
            sources = [messages.FROM_VALUE_ALONE]
        hosts = {_host_of(use, atom) for use in uses for atom in use.atoms if self._find(atom) == leader}
        outside = sorted(host for host in hosts if "." in host and not databases.of_host(host, survey))
        if outside and not own:
            sources = [one for one in sources if one != messages.FROM_VALUE]
            sources.append(messages.FROM_OUTSIDE.format(host=" and ".join(outside)))
        words = {*(atom.name for atom in atoms), *(use.variable for use in uses)}
        elsewhere = not own and (bool(outside) or any(_is_from_elsewhere(word) for word in words))
        formed = any(atom.value.startswith("base64:") for atom in atoms)
        return ProposedSecret(
            name or f"{uses[0].service.name}-{uses[0].variable}",
            tuple(dict.fromkeys((use.service.name, use.variable) for use in uses)),
            tuple(dict.fromkeys(sources)),
            by_hand=alone or elsewhere or formed,
            variables=tuple(dict.fromkeys(atom.name for atom in atoms if atom.kind == "variable")),
        )


def _where_from(atom: _Atom, survey: Survey) -> str:
    if atom.kind != "variable":
        return messages.FROM_VALUE
    text = messages.FROM_VARIABLE if survey.lookup(atom.name) is None else messages.FROM_DOTENV
    return text.format(name=atom.name)


def _source(use: _Use, names: dict[_Atom, str]) -> str:
    """What the spec says of a variable: nothing for the usual name, a secret's name, or a text made of secrets."""
    if use.whole:
        return names[use.atoms[0]]
    return "".join(doubled(piece) if isinstance(piece, str) else f"{{{names[piece]}}}" for piece in use.pieces)


def _host_of(use: _Use, atom: _Atom) -> str:
    """The host that a password is for, as far as the file says."""
    return databases.host_beside(use.variable, use.service) if use.whole else _host_after(use, atom)


def _host_after(use: _Use, atom: _Atom) -> str:
    """The host that follows a password in a URL; empty where none does."""
    position = use.pieces.index(atom) + 1
    rest = use.pieces[position] if position < len(use.pieces) else ""
    host = re.match(r"@([A-Za-z0-9._-]+)", rest if isinstance(rest, str) else "")
    if host is None:
        # As drivers have it: Server=db;Port=5432;Password=…
        texts = ";".join(piece for piece in use.pieces if isinstance(piece, str))
        host = re.search(r"(?:^|[\s;?&])(?:server|host|data source)=([^\s;,:&]+)", texts, re.IGNORECASE)
    return host[1] if host else ""


def _user_before(use: _Use, atom: _Atom) -> str:
    """The user that stands before a password in a URL."""
    before = use.pieces[use.pieces.index(atom) - 1] if use.pieces[0] is not atom else ""
    found = re.search(r"//([^:/@]*):$", before if isinstance(before, str) else "")
    return found[1] if found else ""


# Words of what others give out: a random value would not do.
_OTHERS: Final = (
    "SMTP MAIL EMAIL MAILER MAILGUN SENDGRID POSTMARK SES AWS S3 R2 B2 GCP GCS AZURE STRIPE PAYPAL GITHUB "
    "GITLAB GOOGLE FACEBOOK TWITTER DISCORD SLACK TELEGRAM TWILIO OPENAI ANTHROPIC GEMINI MISTRAL HUGGINGFACE "
    "HF CLOUDFLARE SENTRY OAUTH OAUTH2 OIDC SAML LDAP CLIENT RECAPTCHA TURNSTILE HCAPTCHA CAPTCHA LICENSE "
    "MAPBOX MAXMIND VAPID DKIM APIKEY IMAP BACKUP RESTIC CERT PRIVATE BOT"
)


def _is_from_elsewhere(name: str) -> bool:
    words = set(re.split(r"[^A-Z0-9]+", name.upper()))
    if "INTERNAL" in words:
        return False
    return bool(words & {*_OTHERS.split()}) or re.search(r"API_?(KEY|TOKEN|SECRET)$", name.upper()) is not None


def declared(survey: Survey, known: Iterable[str]) -> Iterator[ProposedSecret]:
    """The secrets that the file itself declares under `secrets:`, which are set on the server too."""
    uses: dict[str, list[tuple[str, str]]] = {}
    for service in survey.contents.services:
        for secret in service.secrets:
            uses.setdefault(secret.name, []).append((service.name, f"/run/secrets/{secret.target or secret.name}"))
    for name, places in uses.items():
        if name not in known:
            yield ProposedSecret(name, tuple(places), (messages.FROM_DECLARATION,))
