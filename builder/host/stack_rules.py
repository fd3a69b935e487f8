"""What the firewall holds for one user of ours: its way out, and its refusals, logged under its name and counted.

The rules are the same but for the user, so every host has them once, as a template. /usr/lib/easyrunner/firewall fills
it in from the subordinate ids of the proxy and of each stack; only what a spec's `egress:` adds is a file of the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder import facts
from builder.host.model import File, Part
from builder.host.rules import FAMILIES, Fragment, Rule, family_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.stack.model import EgressRule, Stack

TEMPLATE: Final = f"{facts.LIB}/firewall.d/stack"
# The addresses of names are found on the host: /usr/lib/easyrunner/names writes them beside a list with this ending.
LIST: Final = ".names"
# At the same time, of one user and family. The host's table of connections has room for 131,072 (modprobe.d): a flood
# must not keep others, or SSH, from having new ones.
CONNECTIONS: Final = 4096


def chain(uid: str | int) -> str:
    """The chain of what a user may reach."""
    return f"ER-OUT-{uid}"


def log(where: str, prefix: str) -> Rule:
    """A line of the kernel's log. Limited, or an app could fill the journal; each user has a limit of its own."""
    return Rule(where, "-m limit --limit 10/min --limit-burst 20", f'LOG --log-prefix "{prefix}" --log-uid')


def template() -> File:
    """The rules of one user, for both families. `@user@`, `@uid@` and `@ids@` are filled in on the host.

    A prefix has room for 29 characters (xt_LOG), which is what the longest stack's user with a colon and a space takes.
    """
    allowed, refused, owners = chain("@uid@"), "ER-NO-@uid@", ("@uid@", "@ids@")
    rules = (
        *(Rule("ER-OUT-STACKS", f"-m owner --uid-owner {one}", allowed) for one in owners),
        Rule(allowed, "", "ER-OUT-GUARD"),
        Rule(allowed, f"-m connlimit --connlimit-above {CONNECTIONS} --connlimit-mask 0", "ER-OUT-DENY"),
        Rule(allowed, "", "ER-OUT-WEB"),
        *(Rule("ER-OUT-LOG", f"-m owner --uid-owner {one}", refused) for one in owners),
        log(refused, "@user@: "),
        Rule(refused, "", "ER-OUT-REJECT", why="its packets are the count of what was refused"),
    )
    return File(TEMPLATE, Fragment("filter", rules, (allowed, refused)).render(), Part.BAKED)


def filled(user: str, uid: int) -> str:
    """The template as the host fills it in."""
    first = (uid - facts.UID_BASE) * facts.SUBID_SIZE
    words = {"user": user, "uid": uid, "ids": f"{first}-{first + facts.SUBID_SIZE - 1}"}
    text = template().content.decode()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def files(stack: Stack) -> Iterator[File]:
    """What the spec opens beyond the default: rules, and those that name a host by its name as a list.

    What a chain does not accept returns to ER-OUTPUT, whose last rules refuse it.
    """
    stem = f"{facts.FIREWALL}/30-{stack.name}"
    wishes = tuple(_wish(stack.uid, wish) for wish in stack.egress if not wish.by_name)
    if wishes:
        yield File(f"{stem}.filter", Fragment("filter", wishes).render(), Part.FIRST_BOOT, stack=stack.name)
    if names := "".join(f"{_wish(stack.uid, wish).line()}\n" for wish in stack.egress if wish.by_name):
        yield File(f"{stem}{LIST}", names.encode(), Part.FIRST_BOOT, stack=stack.name)


def _wish(uid: int, wish: EgressRule) -> Rule:
    ports = f" -m multiport --dports {','.join(map(str, wish.ports))}" if wish.ports else ""
    families = FAMILIES if wish.by_name else family_of(wish.to)
    return Rule(chain(uid), f"-d {wish.to} -p {wish.protocol}{ports}", "ACCEPT", families, "egress of the spec")
