"""A host that boots at a provider: user-data as the provider hands it over, logins tried all the time."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import host, process, userdata
from builder import spec as specs
from builder.host import Part
from builder.lab import base_tree, preload, trial
from builder.lab.machine import Machine
from builder.lab.network import Card
from builder.lab.provider_machine import ProviderMachine
from tests.datasource import provider_network
from tests.datasource.instance import Server
from tests.machine.derived_tree import with_packages
from tests.machine.hosts import IMAGES, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.network import Namespace, Network
    from builder.spec import Spec
    from builder.userdata import Delivery
    from builder.userdata.cloudconfig import On
    from tests.datasource.provider_network import Cloud
    from tests.datasource.row import Row

_SPEC: Final = Path(__file__).parent / "spec.yaml"
# Fail2Ban bans at the fifth failure.
_TRIES: Final = 3


class Login(Enum):
    """What became of an attempt to log in."""

    IN = "in"
    REFUSED = "refused"
    BOOTING = "refused until the machine is up, as systemd does for everyone but root"
    AWAY = "nobody there"


@dataclass(frozen=True, slots=True)
class Look:
    """Attempts at about the same time: as our admin, as root, and as who the stock image has for the console's key."""

    admin: Login
    root: Login
    stock: Login = Login.AWAY


@dataclass
class Boot:
    """A host at its provider. `looks` are the logins that were tried during the boot, in order."""

    row: Row
    delivery: Delivery
    host: Host
    cloud: Cloud
    root_key: Path
    families: tuple[int, ...]
    looks: list[Look] = field(default_factory=list)

    @property
    def machine(self) -> Machine:
        """The machine below the host."""
        return self.host.machine

    def requests(self, **wanted: object) -> list[dict[str, Any]]:
        """The requests with these values."""
        return [request for request in self.cloud.requests if wanted.items() <= request.items()]

    def look(self) -> Look:
        """Try both logins, each from a place that has not failed too often."""
        number = len(self.looks) // _TRIES
        family = self.families[0]
        admin = self._login(self.host.key, self.host.spec.admin.name, self.machine.attacker(2 * number), family)
        root = self._login(self.root_key, "root", self.machine.attacker(2 * number + 1), family)
        stock = self.row.stock_user
        other = self._login(self.root_key, stock, self.machine.attacker(2 * number), family) if stock else Login.AWAY
        self.looks.append(Look(admin, root, other))
        return self.looks[-1]

    def _login(self, key: Path, user: str, source: Namespace, family: int) -> Login:
        argv = Host(self.host.spec, self.machine, key).ssh_argv("true", family=family, user=user)
        # A machine without its network yet is not worth waiting for; one that has let us in only needs its time.
        patience = 30 if self.looks and self.looks[-1].admin is Login.IN else 2
        done = source.run([argv[0], "-o", f"ConnectTimeout={patience}", *argv[1:]], check=False)
        if done.returncode == 0:
            return Login.IN
        if "System is booting up" in done.stdout + done.stderr:
            return Login.BOOTING
        return Login.REFUSED if "Permission denied" in done.stderr else Login.AWAY

    def wait(self, timeout: float) -> None:
        """Until the host is ready and cloud-init is done, looking all the while."""

        def ready() -> bool:
            self.look()
            return trial.READY in self.machine.console_text() and self.machine.cloud_init_done()

        self.machine.wait(ready, timeout=timeout, what="the ready line")
        self.machine.wait(self.machine.started, timeout=timeout, what="the end of start-up")
        self.machine.wait(lambda: self.look().admin is Login.IN, timeout=timeout, what="the admin's login")


def _spec(tmp: Path) -> tuple[Spec, Path, Path]:
    """The spec, the admin's key, and a key that was chosen for root in the provider's console."""
    keys = [tmp / name for name in ("id", "root")]
    for key in keys:
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.name, "-f", str(key)])
    file = tmp / "easyrunner.yaml"
    file.write_text(_SPEC.read_text().replace("IMAGES", str(IMAGES)))
    return specs.load(file)[0], keys[0], keys[1]


def _server(row: Row, lab: Network, delivery: Delivery, root_key: Path, families: tuple[int, ...]) -> Server:
    gateway = provider_network.place(lab)
    return Server(
        name=delivery_name(delivery),
        id=row.id,
        uuid=row.dmi.get("product_uuid", row.id),
        hardware=row.hardware,
        ipv4=lab.machine.ipv4 if 4 in families else "",
        ipv6=lab.machine.ipv6 if 6 in families else "",
        gateway4=gateway.ipv4 if 4 in families else "",
        gateway6=gateway.ipv6 if 6 in families else "",
        root_keys=(root_key.with_suffix(".pub").read_text().strip(),),
        user_data=row.before + delivery.content,
        encoded=not delivery.content.isascii(),
    )


def delivery_name(delivery: Delivery) -> str:
    """The server's name at the provider: not the spec's, which user-data sets."""
    return f"{delivery.provider}-1"


@contextmanager
def booted(
    row: Row, tmp: Path, *, on: On = "stock", families: tuple[int, ...] = (4, 6), timeout: float = 180
) -> Iterator[Boot]:
    """Boot a host at a provider, `on` a stock image with the packages there already, or on a baked one."""
    spec, key, root_key = _spec(tmp)
    built = host.build(spec)
    delivery = userdata.deliver(spec, built, row.provider, on)
    base = base_tree.tree(built.packages)
    tree = with_packages(base, provider_network.disk_packages(row))
    preloads = tuple(preload.prepare(base, owner, images) for owner, images in trial.images_by_owner(spec))
    with ExitStack() as stack:
        servers: list[Server] = []

        def provider(lab: Network) -> ProviderMachine:
            servers.append(_server(row, lab, delivery, root_key, families))
            disks = stack.enter_context(provider_network.attached(row, servers[0], tmp))
            dmi = {name: value.format_map(vars_of(servers[0])) for name, value in row.dmi.items()}
            return ProviderMachine(
                dmi,
                Card(row.card, row.hardware, addressed=False),
                row.driver,
                {**row.files, **provider_network.disk_files(row)},
                disks,
            )

        machine = Machine(tree, name=spec.server.name, preloads=preloads, internet=False, provider=provider)
        stack.enter_context(machine)
        if on == "baked":
            for file in built.only(Part.BAKED):
                machine.files.write(file.path, file.content, int(file.mode, 8))
        running = stack.enter_context(provider_network.running(machine, row, servers[0], tmp))
        boot = Boot(row, delivery, Host(spec, machine, key), running, root_key, families)
        machine.boot()
        try:
            boot.wait(timeout)
        except Exception as error:
            error.add_note(
                machine.run("cloud-init status --long; journalctl -b --no-pager | tail -60", check=False).stdout
            )
            raise
        yield boot


def vars_of(server: Server) -> dict[str, str]:
    """A server's values by their names, for the braces in a row."""
    return {name: str(getattr(server, name)) for name in ("id", "uuid", "hardware", "gateway4", "gateway6", "name")}
