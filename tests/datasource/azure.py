"""Azure: three places at once. A provisioning disk with user-data, IMDS with the network and keys, and the wire server
that is told when the machine is ready."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.datasource.protocol import Route, Rule, direct, header

if TYPE_CHECKING:
    from tests.datasource.instance import Server
    from tests.datasource.protocol import Request, Routes

WIRE: Final = "168.63.129.16"
CHASSIS: Final = "7783-7084-3265-9085-8269-3286-77"
_CONTAINER: Final = "c1d2e3f4-0000-4000-8000-000000000001"
_INCARNATION: Final = "1"


def ovf(server: Server, admin: str) -> bytes:
    """ovf-env.xml of the provisioning disk, which is where custom data is."""
    custom = base64.b64encode(server.user_data).decode()
    settings = {
        "ConfigurationSetType": "LinuxProvisioningConfiguration",
        "HostName": server.name,
        "UserName": admin,
        "DisableSshPasswordAuthentication": "true",
        "CustomData": custom,
    }
    linux = "".join(f"<wa:{key}>{escape(value)}</wa:{key}>" for key, value in settings.items())
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"'
        ' xmlns:wa="http://schemas.microsoft.com/windowsazure">'
        "<wa:ProvisioningSection><wa:Version>1.0</wa:Version>"
        f"<wa:LinuxProvisioningConfigurationSet>{linux}</wa:LinuxProvisioningConfigurationSet>"
        "</wa:ProvisioningSection>"
        "<wa:PlatformSettingsSection><wa:Version>1.0</wa:Version><wa:PlatformSettings>"
        "<wa:ProvisionGuestAgent>true</wa:ProvisionGuestAgent>"
        "</wa:PlatformSettings></wa:PlatformSettingsSection></Environment>"
    ).encode()


def _goal_state(server: Server) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><GoalState>'
        f"<Version>2012-11-30</Version><Incarnation>{_INCARNATION}</Incarnation>"
        "<Machine><ExpectedState>Started</ExpectedState></Machine>"
        f"<Container><ContainerId>{_CONTAINER}</ContainerId><RoleInstanceList><RoleInstance>"
        f"<InstanceId>{server.uuid}._{server.name}</InstanceId><State>Started</State>"
        "</RoleInstance></RoleInstanceList></Container></GoalState>"
    ).encode()


def _card(server: Server) -> dict[str, object]:
    def addresses(address: str, subnet: str, prefix: str) -> dict[str, object]:
        own = [{"privateIpAddress": address, "publicIpAddress": ""}] if address else []
        return {"ipAddress": own, "subnet": [{"address": subnet, "prefix": prefix}] if address else []}

    return {
        "macAddress": server.hardware.replace(":", "").upper(),
        "ipv4": addresses(server.ipv4, f"{server.ipv4.rsplit('.', 1)[0]}.0", "24"),
        "ipv6": addresses(server.ipv6, f"{server.ipv6.rsplit('::', 1)[0]}::", "64"),
    }


def _instance(server: Server, admin: str) -> bytes:
    keys = [{"keyData": key, "path": f"/home/{admin}/.ssh/authorized_keys"} for key in server.root_keys]
    profile = {"adminUsername": admin, "computerName": server.name, "disablePasswordAuthentication": "true"}
    compute = {
        "azEnvironment": "AzurePublicCloud",
        "location": "germanywestcentral",
        "name": server.name,
        "osProfile": profile,
        "osType": "Linux",
        "platformFaultDomain": "0",
        "publicKeys": keys,
        "userData": "",
        "vmId": server.uuid,
    }
    extended = {"compute": {"hasCustomData": True, "ppsType": "None"}}
    return json.dumps({"compute": compute, "network": {"interface": [_card(server)]}, "extended": extended}).encode()


def _says_ready(server: Server) -> Rule:
    def kept(request: Request) -> bool:
        try:
            report = ElementTree.fromstring(request.body)
        except ElementTree.ParseError:
            return False
        found = {element.tag: (element.text or "").strip() for element in report.iter()}
        wanted = {
            "GoalStateIncarnation": _INCARNATION,
            "ContainerId": _CONTAINER,
            "InstanceId": f"{server.uuid}._{server.name}",
            "State": "Ready",
        }
        return wanted.items() <= found.items()

    return Rule("a health report of this goal state that says Ready", 400, kept)


def _at(host: str) -> Rule:
    return Rule(f"asked at {host}", 404, lambda request: request.host == host)


ADMIN: Final = "azureuser"


def routes(server: Server) -> Routes:
    """IMDS and the wire server, each at its own address."""
    imds = (_at("169.254.169.254"), header("Metadata", "true", 400), direct(400))
    wire = (_at(WIRE), header("x-ms-version", "2012-11-30", 400), direct(400))
    query = "api-version=2021-08-01&extended=true"
    return (
        Route("/metadata/instance", _instance(server, ADMIN), imds, query=query),
        Route("/machine/", _goal_state(server), wire, query="comp=goalstate"),
        Route("/machine", b"", (*wire, _says_ready(server)), "POST", query="comp=health"),
    )
