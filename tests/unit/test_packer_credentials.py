"""Logins of every target, one after another: only it is there, and it is taken, under a name that the plugin reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import spec as specs
from builder.packer import credentials, request
from builder.packer import request as orders
from builder.packer.request import Request
from builder.packer.targets import BY_NAME
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEC = Path(__file__).parents[2] / "examples" / "web.yaml"


@dataclass(frozen=True)
class Case:
    """The environment and the files of a home that are there, and what the plugin must be given."""

    target: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.target}-{'+'.join([*self.environment, *self.files])}"


_PRINCIPAL = ("SUBSCRIPTION_ID", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")
_AZURE = {f"PKR_VAR_{name.lower()}": f"its {name}" for name in _PRINCIPAL}
_DO = {"DIGITALOCEAN_TOKEN": "secret", "DIGITALOCEAN_API_TOKEN": "secret"}
_SCW = {"SCW_ACCESS_KEY": "key", "SCW_SECRET_KEY": "secret", "SCW_DEFAULT_PROJECT_ID": "project"}
_PROFILE = "access_key: key\nsecret_key: secret\ndefault_project_id: project\n"
_CLOUDS = "clouds:\n  ovh: {auth: {auth_url: https://x}}\n"
_HCLOUD = 'active_context = "a"\n[[contexts]]\nname = "a"\ntoken = "secret"\n'
_PROXMOX = {"PROXMOX_URL": "https://pve:8006/api2/json", "PROXMOX_USERNAME": "er@pve!er"}

CASES = (
    Case("qemu"),
    Case("aws", {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}),
    Case("aws", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}),
    Case("aws", {}, {".aws/credentials": "[default]\naws_access_key_id = x\naws_secret_access_key = y\n"}),
    Case("aws", {"AWS_PROFILE": "work"}, {".aws/config": "[profile work]\nsso_session = corp\n"}),
    Case("aws", {"AWS_PROFILE": "b", "AWS_SHARED_CREDENTIALS_FILE": "HOME/mine"}, {"mine": "[b]\nrole_arn = x\n"}),
    Case("aws", {"AWS_CONFIG_FILE": "HOME/mine"}, {"mine": "[default]\ncredential_process = /usr/bin/pass\n"}),
    Case("aws", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials"}),
    Case("aws", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1"}),
    Case("digitalocean", {"DIGITALOCEAN_TOKEN": "secret"}, {}, _DO),
    Case("digitalocean", {"DIGITALOCEAN_ACCESS_TOKEN": "secret"}, {}, _DO),
    Case("digitalocean", {"DIGITALOCEAN_API_TOKEN": "secret"}, {}, _DO),
    Case("digitalocean", {}, {".config/doctl/config.yaml": "access-token: secret\ncontext: default\n"}, _DO),
    Case("digitalocean", {"DIGITALOCEAN_CONTEXT": "b"},
         {".config/doctl/config.yaml": "access-token: other\nauth-contexts: {b: secret}\n"}, _DO),
    Case("hetzner", {"HCLOUD_TOKEN": "secret"}),
    Case("hetzner", {}, {".config/hcloud/cli.toml": _HCLOUD}, {"HCLOUD_TOKEN": "secret"}),
    Case("linode", {"LINODE_TOKEN": "secret"}),
    Case("linode", {"LINODE_CLI_TOKEN": "secret"}, {}, {"LINODE_TOKEN": "secret"}),
    Case("linode", {}, {".config/linode-cli": "[DEFAULT]\ndefault-user = me\n[me]\ntoken = secret\n"},
         {"LINODE_TOKEN": "secret"}),
    Case("vultr", {"VULTR_API_KEY": "secret"}),
    Case("vultr", {}, {".vultr-cli.yaml": "api-key: secret\n"}, {"VULTR_API_KEY": "secret"}),
    Case("scaleway", _SCW),
    Case("scaleway", {"SCW_ACCESS_KEY": "key", "SCW_SECRET_KEY": "secret", "SCW_DEFAULT_ORGANIZATION_ID": "project"},
         {}, _SCW),
    Case("scaleway", {}, {".config/scw/config.yaml": _PROFILE}, _SCW),
    Case("scaleway", {"SCW_PROFILE": "b"}, {".config/scw/config.yaml":
         "access_key: other\nsecret_key: other\nprofiles:\n  b: {access_key: key, secret_key: secret, "
         "default_project_id: project, default_zone: nl-ams-1}\n"}, {**_SCW, "SCW_DEFAULT_ZONE": "nl-ams-1"}),
    Case("openstack", {"OS_AUTH_URL": "https://x", "OS_USERNAME": "me"}),
    Case("openstack", {"OS_CLOUD": "ovh"}),
    Case("openstack", {"OS_CLIENT_CONFIG_FILE": "HOME/mine"}, {"mine": _CLOUDS}, {"OS_CLOUD": "ovh"}),
    Case("openstack", {}, {".config/openstack/clouds.yaml": _CLOUDS}, {"OS_CLOUD": "ovh"}),
    Case("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}),
    Case("gcp", {}, {".config/gcloud/application_default_credentials.json": '{"type": "authorized_user"}'}),
    Case("gcp", {"CLOUDSDK_CONFIG": "HOME/g"}, {"g/application_default_credentials.json": '{"type": "x"}'}),
    Case("azure", {f"ARM_{name}": f"its {name}" for name in _PRINCIPAL}, {}, _AZURE),
    Case("azure", {f"AZURE_{name}": f"its {name}" for name in _PRINCIPAL}, {}, _AZURE),
    Case("azure", _AZURE),
    Case("azure", {}, {".azure/azureProfile.json": '\ufeff{"subscriptions": [{"id": "s", "isDefault": true}]}'},
         {"PKR_VAR_subscription_id": "s", "PKR_VAR_use_azure_cli_auth": "true"}),
    Case("upcloud", {"UPCLOUD_TOKEN": "secret"}),
    Case("upcloud", {"UPCLOUD_USERNAME": "me", "UPCLOUD_PASSWORD": "secret"}),
    Case("upcloud", {"UPCLOUD_API_USER": "me", "UPCLOUD_API_PASSWORD": "secret"}, {},
         {"UPCLOUD_USERNAME": "me", "UPCLOUD_PASSWORD": "secret"}),
    Case("upcloud", {}, {".config/upctl.yaml": "username: me\npassword: secret\n"},
         {"UPCLOUD_USERNAME": "me", "UPCLOUD_PASSWORD": "secret"}),
    Case("exoscale", {"EXOSCALE_API_KEY": "key", "EXOSCALE_API_SECRET": "secret"}, {},
         {"PKR_VAR_api_key": "key", "PKR_VAR_api_secret": "secret"}),
    Case("exoscale", {"PKR_VAR_api_key": "key", "PKR_VAR_api_secret": "secret"}),
    Case("exoscale", {}, {".config/exoscale/exoscale.toml":
         'defaultaccount = "a"\n[[accounts]]\nname = "a"\nkey = "key"\nsecret = "secret"\n'},
         {"PKR_VAR_api_key": "key", "PKR_VAR_api_secret": "secret"}),
    Case("proxmox", {**_PROXMOX, "PROXMOX_TOKEN": "secret"}),
    Case("proxmox", {**_PROXMOX, "PROXMOX_PASSWORD": "secret"}),
)  # fmt: skip


def laid(case: Case, home: Path) -> dict[str, str]:
    """The environment of a case, with its files."""
    for name, text in case.files.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {"HOME": str(home), **{name: text.replace("HOME", str(home)) for name, text in case.environment.items()}}


def order(target: str, environment: Mapping[str, str], home: Path) -> Request:
    """With values for all settings."""
    values = home / "values.json"
    values.write_text(json.dumps(dict.fromkeys(BY_NAME[target].settings, "x")))
    spec, _ = specs.load(SPEC)
    return Request(spec, BY_NAME[target], home / "out", var_files=(values,), environment=environment)


@pytest.fixture(autouse=True)
def _no_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine is nobody's, and stands in a directory of no clouds.yaml."""
    monkeypatch.setattr(credentials, "_DMI", tmp_path / "dmi")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_usual_login_is_enough(case: Case, tmp_path: Path) -> None:
    environment = laid(case, tmp_path)
    orders.check(order(case.target, environment, tmp_path))
    given = credentials.complete(case.target, environment)
    assert {**given, **case.given} == given
    assert {**given, **environment} == given or case.given


def test_every_login_of_every_target_has_a_case(tmp_path: Path) -> None:
    """But those of a machine at the provider, which are below."""
    for target, logins in credentials.BY_TARGET.items():
        for number, login in enumerate(logins):
            homes = (tmp_path / target / str(number) / str(index) for index in range(len(CASES)))
            found = [
                login.find(laid(case, home)) for case, home in zip(CASES, homes, strict=True) if case.target == target
            ]
            role = "role" in login.text or "attached" in login.text or login.text.endswith("clouds.yaml")
            assert role or any(one is not None for one in found), (target, login.text)


@pytest.mark.parametrize("target", credentials.BY_TARGET)
def test_without_a_login_all_ways_are_told(target: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        orders.check(order(target, {"HOME": str(tmp_path)}, tmp_path))
    logins = credentials.BY_TARGET[target]
    assert caught.value.message == f"{target} needs a login: {' or '.join(login.text for login in logins)}"
    assert caught.value.hint is not None
    assert all(login.what in caught.value.hint for login in logins)


@pytest.mark.parametrize(("target", "file", "word"), [
    ("aws", "sys_vendor", "Amazon EC2"), ("gcp", "product_name", "Google Compute Engine")])  # fmt: skip
def test_a_machine_of_the_provider_has_a_role(target: str, file: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "dmi").mkdir()
    (tmp_path / "dmi" / file).write_text(f"{word}\n")
    assert credentials.missing(target, {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("text", ["", "[default]\nregion = eu-central-1\n", "not a file of settings"])
def test_a_config_of_aws_without_a_login_is_none(text: str, tmp_path: Path) -> None:
    environment = laid(Case("aws", {}, {".aws/config": text}), tmp_path)
    assert credentials.missing("aws", environment) is not None


def test_an_unknown_profile_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_PROFILE": "wrok"}
    environment = laid(Case("aws", keys, {".aws/config": "[profile work]\nrole_arn = x\n"}), tmp_path)
    with pytest.raises(UserError, match="no profile is called wrok") as caught:
        orders.check(order("aws", environment, tmp_path))
    assert caught.value.hint == "there are work; aws configure list-profiles"


def test_places_come_from_the_same_settings(tmp_path: Path) -> None:
    environment = {"GOOGLE_CLOUD_PROJECT": "p", "CLOUDSDK_COMPUTE_ZONE": "europe-west4-a"}
    assert request.provider_variables(order("gcp", environment, tmp_path)) == {
        "project_id": "p",
        "zone": "europe-west4-a",
    }
    case = next(case for case in CASES if case.environment.get("SCW_PROFILE"))
    assert request.provider_variables(order("scaleway", laid(case, tmp_path), tmp_path)) == {"zone": "nl-ams-1"}
