"""Logins of a target: whatever the provider's own command, its libraries or its plugin take, in their order.

A login is found in the environment, in a file that the provider's own command has written, or in the machine's role.
What the plugin does not read itself is handed to it under a name that it does.
"""

from __future__ import annotations

import configparser
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# What a login adds to the environment of Packer; None where there is no such login.
Variables = dict[str, str] | None
_DMI: Final = Path("/sys/class/dmi/id")


@dataclass(frozen=True, slots=True)
class Login:
    """One way to log in: how it is written for people, what for, and how it is found."""

    text: str
    what: str
    find: Callable[[Mapping[str, str]], Variables] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Missing:
    """No login was found: one of these would do."""

    target: str
    logins: tuple[Login, ...]

    @property
    def message(self) -> str:
        """In a line."""
        return f"{self.target} needs a login: {' or '.join(login.text for login in self.logins)}"

    @property
    def hint(self) -> str:
        """What each of them is."""
        return "; ".join(f"{login.text}: {login.what}" for login in self.logins)


def missing(target: str, environment: Mapping[str, str]) -> Missing | None:
    """What is missing for `target`, or None when there is a login or none is needed."""
    logins = BY_TARGET.get(target, ())
    if not logins or any(login.find(environment) is not None for login in logins):
        return None
    return Missing(target, logins)


def complete(target: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with the login under the names that the target's plugin reads."""
    for login in BY_TARGET.get(target, ()):
        if (found := login.find(environment)) is not None:
            return {**environment, **found}
    return dict(environment)


def check_profile(environment: Mapping[str, str]) -> None:
    """Raise UserError for a profile of AWS that its files do not have: the plugin says so late and at length."""
    selected = environment.get("AWS_PROFILE")
    if selected and selected not in (known := _aws_profiles(environment)):
        known_profiles = f"there are {', '.join(sorted(known))}" if known else "there is none"
        raise UserError(
            f"AWS_PROFILE: no profile is called {selected}", f"{known_profiles}; aws configure list-profiles"
        )


def _variables(*names: str, **plugin: str) -> Callable[[Mapping[str, str]], Variables]:
    """All these variables; `plugin` maps a name that the plugin reads to the one of them that holds its value."""

    def find(environment: Mapping[str, str]) -> Variables:
        if not all(environment.get(name) for name in names):
            return None
        return {further: environment[name] for further, name in plugin.items()}

    return find


def _file(
    path: str, read: Callable[[str, Mapping[str, str]], Variables], named: str = ""
) -> Callable[[Mapping[str, str]], Variables]:
    """A file of the home directory, or the one that the variable `named` says; None when it cannot be read."""

    def find(environment: Mapping[str, str]) -> Variables:
        configured = environment.get(named, "") if named else ""
        try:
            return read(_home(environment, configured or path).read_text(), environment)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, configparser.Error):
            return None

    return find


def _home(environment: Mapping[str, str], path: str) -> Path:
    home = environment.get("HOME") or "/nonexistent"
    return Path(path.replace("~", home, 1)) if path.startswith("~") else Path(path)


def _unless_empty(**values: object) -> Variables:
    """These values, or None when one of them is empty."""
    return {name: str(value) for name, value in values.items()} if all(values.values()) else None


def _hcloud(text: str, environment: Mapping[str, str]) -> Variables:
    config = tomllib.loads(text)
    selected = environment.get("HCLOUD_CONTEXT") or config["active_context"]
    return _unless_empty(HCLOUD_TOKEN=next(one["token"] for one in config["contexts"] if one["name"] == selected))


def _doctl(text: str, environment: Mapping[str, str]) -> Variables:
    config: dict[str, Any] = yaml.safe_load(text)
    context = environment.get("DIGITALOCEAN_CONTEXT") or config.get("context") or "default"
    token = config["access-token"] if context == "default" else config["auth-contexts"][context]
    return _unless_empty(DIGITALOCEAN_TOKEN=token, DIGITALOCEAN_API_TOKEN=token)


def _linode(text: str, environment: Mapping[str, str]) -> Variables:
    config = _ini(text)
    user = environment.get("LINODE_CLI_USER") or config.get("DEFAULT", "default-user")
    return _unless_empty(LINODE_TOKEN=config.get(user, "token"))


def _vultr(text: str, _: Mapping[str, str]) -> Variables:
    return _unless_empty(VULTR_API_KEY=yaml.safe_load(text)["api-key"])


def _scw(text: str, environment: Mapping[str, str]) -> Variables:
    config: dict[str, Any] = yaml.safe_load(text)
    selected = environment.get("SCW_PROFILE") or config.get("active_profile")
    profile = {**config, **(config["profiles"][selected] if selected else {})}
    found = _unless_empty(
        SCW_ACCESS_KEY=profile["access_key"],
        SCW_SECRET_KEY=profile["secret_key"],
        SCW_DEFAULT_PROJECT_ID=profile.get("default_project_id") or profile["default_organization_id"],
    )
    zone = environment.get("SCW_DEFAULT_ZONE") or profile.get("default_zone")
    return found and {**found, **({"SCW_DEFAULT_ZONE": zone} if zone else {})}


def _upctl(text: str, _: Mapping[str, str]) -> Variables:
    config: dict[str, Any] = yaml.safe_load(text)
    if config.get("token"):
        return _unless_empty(UPCLOUD_TOKEN=config["token"])
    return _unless_empty(UPCLOUD_USERNAME=config["username"], UPCLOUD_PASSWORD=config["password"])


def _exo(text: str, environment: Mapping[str, str]) -> Variables:
    config = tomllib.loads(text)
    selected = environment.get("EXOSCALE_ACCOUNT") or config["defaultaccount"]
    account = next(one for one in config["accounts"] if one["name"] == selected)
    return _unless_empty(PKR_VAR_api_key=account["key"], PKR_VAR_api_secret=account["secret"])


def _clouds(text: str, environment: Mapping[str, str]) -> Variables:
    """The one that is named, or the only one."""
    clouds = list(yaml.safe_load(text)["clouds"])
    named = environment.get("OS_CLOUD") or (clouds[0] if len(clouds) == 1 else "")
    return {"OS_CLOUD": named} if named in clouds else None


def _gcloud(text: str, _: Mapping[str, str]) -> Variables:
    return {} if json.loads(text) else None


def _az(text: str, environment: Mapping[str, str]) -> Variables:
    """The subscription that `az account set` chose; the tokens stay with az."""
    profile = json.loads(text.lstrip("\ufeff"))
    selected = environment.get("ARM_SUBSCRIPTION_ID") or environment.get("AZURE_SUBSCRIPTION_ID")
    chosen = selected or next(one["id"] for one in profile["subscriptions"] if one.get("isDefault"))
    return {"PKR_VAR_subscription_id": chosen, "PKR_VAR_use_azure_cli_auth": "true"}


def _principal(prefix: str) -> Callable[[Mapping[str, str]], Variables]:
    names = ("SUBSCRIPTION_ID", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")
    return _variables(
        *(prefix + name for name in names), **{f"PKR_VAR_{name.lower()}": prefix + name for name in names}
    )


def _ini(text: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(text)
    return config


def _aws_files(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for name, path in (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")):
        yield name, _home(environment, environment.get(name) or path)


def _aws_profiles(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The profiles of both files; a section without a line says nothing."""
    found: dict[str, dict[str, str]] = {}
    for _, path in _aws_files(environment):
        try:
            config = _ini(path.read_text())
        except (OSError, ValueError, configparser.Error):
            continue
        for section in config.sections():
            found.setdefault(section.removeprefix("profile "), {}).update(config.items(section))
    return found


def _aws_file(environment: Mapping[str, str]) -> Variables:
    """A profile that says how to log in: keys, a role, single sign-on, a program; a region alone does not."""
    profile = _aws_profiles(environment).get(environment.get("AWS_PROFILE") or "default", {})
    sources = ("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "credential_process", "login_session")
    return {} if any(profile.get(name) for name in sources) else None


def _own_machine(file: str, word: str) -> Callable[[Mapping[str, str]], Variables]:
    """A machine of the provider itself, which may have a role."""

    def find(environment: Mapping[str, str]) -> Variables:
        if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        try:
            return {} if word in (_DMI / file).read_text() else None
        except OSError:
            return None

    return find


def _token(name: str, what: str = "API token", **plugin: str) -> Login:
    return Login(name, what, _variables(name, **plugin))


def _digitalocean_names(name: str) -> dict[str, str]:
    """The name that the plugin reads now, and the one of 1.6.6."""
    return {"DIGITALOCEAN_TOKEN": name, "DIGITALOCEAN_API_TOKEN": name}


def _pair(first: str, second: str, what: str, **plugin: str) -> Login:
    return Login(f"{first} with {second}", what, _variables(first, second, **plugin))


_SCW: Final = ("SCW_ACCESS_KEY", "SCW_SECRET_KEY", "SCW_DEFAULT_PROJECT_ID")
_ORGANISATION: Final = ("SCW_ACCESS_KEY", "SCW_SECRET_KEY", "SCW_DEFAULT_ORGANIZATION_ID")

BY_TARGET: Final[Mapping[str, tuple[Login, ...]]] = {
    "aws": (
        _pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "access key; AWS_SESSION_TOKEN too when it is temporary"),
        _pair("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "a role, as in CI and EKS"),
        Login("AWS_PROFILE or ~/.aws", "a profile that aws configure or aws sso login has made", _aws_file),
        _token("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "a task's role in ECS"),
        _token("AWS_CONTAINER_CREDENTIALS_FULL_URI", "a pod's role in EKS, CloudShell"),
        Login("an instance's role", "on a machine of EC2", _own_machine("sys_vendor", "Amazon EC2")),
    ),
    "digitalocean": (
        _token("DIGITALOCEAN_TOKEN", "personal access token", **_digitalocean_names("DIGITALOCEAN_TOKEN")),
        _token("DIGITALOCEAN_ACCESS_TOKEN", "as doctl names it", **_digitalocean_names("DIGITALOCEAN_ACCESS_TOKEN")),
        _token("DIGITALOCEAN_API_TOKEN", "its old name", **_digitalocean_names("DIGITALOCEAN_API_TOKEN")),
        Login("doctl auth init", "~/.config/doctl/config.yaml", _file("~/.config/doctl/config.yaml", _doctl)),
    ),
    "hetzner": (
        _token("HCLOUD_TOKEN", "API token of the project, to read and write"),
        Login(
            "hcloud context create",
            "~/.config/hcloud/cli.toml, HCLOUD_CONFIG, HCLOUD_CONTEXT",
            _file("~/.config/hcloud/cli.toml", _hcloud, "HCLOUD_CONFIG"),
        ),
    ),
    "linode": (
        _token("LINODE_TOKEN", "personal access token"),
        _token("LINODE_CLI_TOKEN", "as linode-cli names it", LINODE_TOKEN="LINODE_CLI_TOKEN"),  # noqa: S106 - names
        Login("linode-cli configure", "~/.config/linode-cli", _file("~/.config/linode-cli", _linode)),
    ),
    "vultr": (
        _token("VULTR_API_KEY", "API key; its access list must have this machine's address"),
        Login("vultr-cli", "~/.vultr-cli.yaml", _file("~/.vultr-cli.yaml", _vultr)),
    ),
    "scaleway": (
        Login(" with ".join(_SCW), "API key and the project", _variables(*_SCW)),
        Login(
            "SCW_DEFAULT_ORGANIZATION_ID in place of the project",
            "the organisation's default project",
            _variables(*_ORGANISATION, SCW_DEFAULT_PROJECT_ID="SCW_DEFAULT_ORGANIZATION_ID"),
        ),
        Login(
            "scw init",
            "~/.config/scw/config.yaml, SCW_CONFIG_PATH, SCW_PROFILE",
            _file("~/.config/scw/config.yaml", _scw, "SCW_CONFIG_PATH"),
        ),
    ),
    "openstack": (
        _token("OS_AUTH_URL", "and the other OS_* variables of an openrc file"),
        Login(
            "OS_CLIENT_CONFIG_FILE",
            "a clouds.yaml: OS_CLOUD names its entry, or there is one only",
            lambda it: _file("", _clouds, "OS_CLIENT_CONFIG_FILE")(it) if it.get("OS_CLIENT_CONFIG_FILE") else None,
        ),
        Login("OS_CLOUD", "an entry of clouds.yaml", _variables("OS_CLOUD")),
        Login("clouds.yaml", "here, or in ~/.config/openstack, with one entry", _file("clouds.yaml", _clouds)),
        Login(
            "~/.config/openstack/clouds.yaml", "with one entry", _file("~/.config/openstack/clouds.yaml", _clouds)
        ),
        Login("/etc/openstack/clouds.yaml", "with one entry", _file("/etc/openstack/clouds.yaml", _clouds)),
    ),
    "gcp": (
        _token("GOOGLE_APPLICATION_CREDENTIALS", "path of a service account's key"),
        Login(
            "gcloud auth application-default login",
            "~/.config/gcloud/application_default_credentials.json, CLOUDSDK_CONFIG",
            lambda it: _file(
                f"{it.get('CLOUDSDK_CONFIG') or '~/.config/gcloud'}/application_default_credentials.json", _gcloud
            )(it),
        ),
        Login(
            "the attached service account", "on a machine of GCE", _own_machine("product_name", "Google Compute Engine")
        ),
    ),
    "azure": (
        Login("ARM_SUBSCRIPTION_ID, _TENANT_ID, _CLIENT_ID, _CLIENT_SECRET", "a service principal", _principal("ARM_")),
        Login("AZURE_… of the same names", "as the SDKs name them", _principal("AZURE_")),
        Login("PKR_VAR_subscription_id, _tenant_id, …", "as variables of the template", _variables(
            "PKR_VAR_subscription_id", "PKR_VAR_tenant_id", "PKR_VAR_client_id", "PKR_VAR_client_secret")),
        Login(
            "az login",
            "~/.azure, AZURE_CONFIG_DIR",
            lambda it: _file(f"{it.get('AZURE_CONFIG_DIR') or '~/.azure'}/azureProfile.json", _az)(it),
        ),
    ),
    "upcloud": (
        _token("UPCLOUD_TOKEN"),
        _pair("UPCLOUD_USERNAME", "UPCLOUD_PASSWORD", "a user that may use the API"),
        _pair(
            "UPCLOUD_API_USER", "UPCLOUD_API_PASSWORD", "their old names",
            UPCLOUD_USERNAME="UPCLOUD_API_USER", UPCLOUD_PASSWORD="UPCLOUD_API_PASSWORD",  # noqa: S106 - names
        ),
        Login("upctl", "~/.config/upctl.yaml", _file("~/.config/upctl.yaml", _upctl)),
    ),
    "exoscale": (
        _pair(
            "EXOSCALE_API_KEY", "EXOSCALE_API_SECRET", "API key and its secret",
            PKR_VAR_api_key="EXOSCALE_API_KEY", PKR_VAR_api_secret="EXOSCALE_API_SECRET",  # noqa: S106 - names
        ),
        _pair("PKR_VAR_api_key", "PKR_VAR_api_secret", "as variables of the template"),
        Login(
            "exo config",
            "~/.config/exoscale/exoscale.toml, EXOSCALE_CONFIG",
            _file("~/.config/exoscale/exoscale.toml", _exo, "EXOSCALE_CONFIG"),
        ),
    ),
    "proxmox": (
        Login(
            "PROXMOX_URL with PROXMOX_USERNAME and PROXMOX_TOKEN",
            "https://<host>:8006/api2/json, user@realm!tokenid and the token",
            _variables("PROXMOX_URL", "PROXMOX_USERNAME", "PROXMOX_TOKEN"),
        ),
        Login(
            "PROXMOX_URL with PROXMOX_USERNAME and PROXMOX_PASSWORD",
            "user@realm and its password",
            _variables("PROXMOX_URL", "PROXMOX_USERNAME", "PROXMOX_PASSWORD"),
        ),
    ),
}  # fmt: skip
