"""What was found from outside as rows: ports, direct hits, redirects, certificates, TLS, headers, HTTP/3."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.quantities import duration
from builder.server.report.model import Row, Section, State, judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.server.report.promises import Promises

Found = dict[str, Any]


def sections(found: Found, promises: Promises, at: int) -> Iterator[Section]:
    """Each as it stands on the page; `at` is now, in seconds since 1970."""
    yield Section("ports", "Open ports", tuple(_ports(found, promises)), _about_ports(found))
    sites = [_seen_from_here(one, promises) for one in found["sites"] if one["domain"] in promises.domains]
    yield Section("sites", "Sites", tuple(_sites(sites, promises)))
    yield Section(
        "certificates-outside", "Certificates as visitors see them", tuple(_certificates(sites, promises, at))
    )
    yield Section("tls", "TLS and HTTP/3", (*_versions(found), *_quic(found, promises)))
    yield Section("headers", "Security headers", tuple(_headers(sites, promises)))


_BY_ITS_EDGE: Final = "answers its edge alone, which was not asked"


def _seen_from_here(site: Found, promises: Promises) -> Found:
    """A site that answers its edge alone can say nothing to others, which is as it should be."""
    silent = promises.edge == "only" and "error" in site["plain"] and "error" in site["secure"]
    return {**site, "plain": {"hidden": True}, "secure": {"hidden": True, "error": _BY_ITS_EDGE}} if silent else site


def _about_ports(found: Found) -> str:
    return f"{len(found['tried'])} ports of each address were tried by a connection from here."


# ---- ports

_WEB: Final = (facts.HTTP, facts.HTTPS)
_DIRECT: Final = (facts.PROXY_HTTP, facts.PROXY_HTTPS, facts.PROXY_ADMIN)


def _ports(found: Found, promises: Promises) -> Iterator[Row]:
    for address, states in found["ports"].items():
        yield _of_address(address, states, _WEB if promises.edge != "only" else ())
    for address, states in found["ports"].items():
        if _is_reached(states):
            yield _direct(address, states)


def _is_reached(states: Mapping[int, str]) -> bool:
    return {*states.values()} != {"no way"}


def _of_address(address: str, states: Mapping[int, str], web: tuple[int, ...]) -> Row:
    """Of `web`, the ports that the world may ask; none where an edge alone may."""
    what, promised = f"{family(address)}, {address}", f"{_in_words(facts.SSH, *web)} open, nothing else"
    if not _is_reached(states):
        return Row(what, promised, f"could not be tried: from here there is no way to {family(address)}", "untried")
    is_open = [number for number, state in states.items() if state == "open"]
    missing = [number for number in web if number not in is_open]
    extra = [number for number in is_open if number not in (facts.SSH, *web)]
    said = [f"open: {_listed(is_open) or 'none'}"]
    said += [f"not promised: {_listed(extra)}"] * bool(extra)
    said += [f"no answer at: {_listed(missing)}"] * bool(missing)
    if facts.SSH not in is_open:
        said.append(f"{facts.SSH} does not answer here, as ssh.allow_from may say")
    mark = f"{_listed(extra)} open" if extra else "nothing else open" if not missing else "the web is closed"
    return Row(what, promised, "; ".join(said), judged(not extra and not missing), place="wall", mark=mark)


def _direct(address: str, states: Mapping[int, str]) -> Row:
    answered = [number for number in _DIRECT if states.get(number) == "open"]
    seen = f"{_listed(answered)} answer" if answered else "nobody is let in"
    mark = f"{_listed(answered)} answer" if answered else "reached by its gates alone"
    what = f"Straight at the proxy, {family(address)}"
    return Row(what, f"{_listed(_DIRECT)} answer nobody", seen, judged(not answered), place="proxy", mark=mark)


def _in_words(*numbers: int) -> str:
    *most, last = map(str, numbers)
    return " and ".join([*([", ".join(most)] * bool(most)), last])


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, numbers))


def family(address: str) -> str:
    """IPv4 or IPv6."""
    return f"IPv{ipaddress.ip_address(address).version}"


# ---- sites


def _sites(sites: list[Found], promises: Promises) -> Iterator[Row]:
    for domain, found in _by_domain(sites).items():
        stack = promises.domains[domain]
        seen, state = _joined({one["address"]: _redirect(domain, one["plain"]) for one in found})
        yield Row(f"http://{domain}/", "leads to HTTPS, and shows nothing", seen, state, stack)
        seen, state = _joined({one["address"]: _answer(one["secure"]) for one in found})
        mark = "answers" if state == "good" else "" if any("sleeps" in one["secure"] for one in found) else seen
        yield Row(f"https://{domain}/", "answers", seen, state, stack, f"site:{domain}", mark)


def _by_domain(sites: list[Found]) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for one in sites:
        found.setdefault(one["domain"], []).append(one)
    return found


# What was seen, and what that comes to.
Judged = tuple[str, State]


def _joined(each: Mapping[str, Judged]) -> Judged:
    """What was seen at all addresses of a site: as bad as the worst."""
    states = {state for _, state in each.values()}
    worst = next(one for one in _FROM_WORST if one in states)
    return _together({address: text for address, (text, _) in each.items()}), worst


_FROM_WORST: Final[tuple[State, ...]] = ("bad", "untried", "good")


def _together(texts: Mapping[str, str]) -> str:
    """What was seen at each address: once, where it is the same."""
    families = " and ".join(dict.fromkeys(map(family, texts)))
    if len({*texts.values()}) == 1:
        return f"{next(iter(texts.values()))} ({families})"
    return "; ".join(f"{address}: {text}" for address, text in texts.items())


_REDIRECTS: Final = {301, 302, 303, 307, 308}


def _redirect(domain: str, plain: Found) -> Judged:
    if "hidden" in plain:
        return _BY_ITS_EDGE, "untried"
    if "error" in plain:
        return plain["error"], "bad"
    if plain["status"] not in _REDIRECTS:
        return f"answered {plain['status']}", "bad"
    is_right = plain["location"].startswith(f"https://{domain}/")
    return f"{plain['status']} to {plain['location']}", judged(is_right)


_SERVER_ERROR: Final = 500
_NOT_WOKEN: Final = "it sleeps when nobody asks, and was not asked"


def _answer(secure: Found) -> Judged:
    if "error" in secure:
        return secure["error"], "untried" if "hidden" in secure else "bad"
    if "sleeps" in secure:
        return f"{secure['version']}; {_NOT_WOKEN}", "untried"
    return f"{secure['status']} over {secure['version']}", judged(secure["status"] < _SERVER_ERROR)


# ---- certificates


def _certificates(sites: list[Found], promises: Promises, at: int) -> Iterator[Row]:
    for domain, found in _by_domain(sites).items():
        seen, state = _joined({one["address"]: _certificate(one["secure"], promises.ca, at) for one in found})
        mark = f"certificate: {seen}" if state == "bad" else ""
        stack = promises.domains[domain]
        yield Row(domain, _promised_signer(promises.ca), seen, state, stack, f"site:{domain}", mark)


_SIGNERS: Final = {
    "": "valid for its name, renewed in time",
    "internal": "valid for its name, signed by the host's own authority",
    "letsencrypt": "valid for its name, believed by every browser, renewed in time",
    "letsencrypt-staging": "valid for its name, signed by Let's Encrypt's staging, which no browser believes",
}
_UNKNOWN_SIGNER: Final = ("unable to get local issuer", "self-signed certificate in", "unable to verify")


def _promised_signer(ca: str) -> str:
    return _SIGNERS.get(ca, "valid for its name, signed by the authority of the spec")


def _certificate(secure: Found, ca: str, at: int) -> Judged:
    if "error" in secure:
        return secure["error"], "untried"
    found = secure["certificate"]
    left = found["until"] - at
    said = f"by {found['issuer']}, until {until(found['until'])}, {duration(left)} left"
    is_internal = facts.INTERNAL_ISSUER in found["issuer"]
    late = left < (0 if is_internal else facts.LEAST_DAYS * 86_400)
    if late:
        said = f"ended {until(found['until'])}, by {found['issuer']}" if left < 0 else f"not renewed: {said}"
    elif found["refusal"]:
        said = f"{said}; a browser would refuse it: {found['refusal']}"
    unknown = found["refusal"].startswith(_UNKNOWN_SIGNER) and ca not in {"", "internal", "letsencrypt"}
    wrong_signer = is_internal != (ca == "internal") and ca in {"internal", "letsencrypt"}
    return said, judged(not late and not wrong_signer and (not found["refusal"] or unknown))


def until(at: int) -> str:
    """As a date."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


# ---- TLS and QUIC

_WANTED: Final = {"TLS 1.0": "refused", "TLS 1.1": "refused", "TLS 1.2": "taken", "TLS 1.3": "taken"}


def _versions(found: Found) -> Iterator[Row]:
    for name, wanted in _WANTED.items():
        if each := {address: versions[name] for address, versions in found["versions"].items()}:
            yield Row(name, wanted, _together(each), _version_state({*each.values()}, wanted))
        else:
            yield Row(name, wanted, f"{facts.HTTPS} is not open, or there is no site", "untried")


def _version_state(seen: set[str], wanted: str) -> State:
    if seen == {wanted}:
        return "good"
    is_wrong = bool(seen & ({"taken", "refused"} - {wanted})) or wanted == "taken"
    return "bad" if is_wrong else "untried"


def _quic(found: Found, promises: Promises) -> Iterator[Row]:
    for address, quic in found["quic"].items():
        what, promised = f"HTTP/3, {family(address)}", f"spoken at {facts.HTTPS}/udp"
        if promises.edge:
            answers = bool(quic["status"] or quic["spoken"])
            seen = "QUIC answers" if answers else "no answer by QUIC"
            yield Row(what, "closed, as no edge passes it on", seen, judged(not answers))
        elif quic["status"]:
            yield Row(
                what,
                promised,
                f"a request by HTTP/3 answered {quic['status']}",
                "good",
                place="gate:udp",
                mark="answers",
            )
        elif quic["status"] is None and quic["spoken"]:
            why = "curl here has no HTTP/3" if quic.get("sites", True) else "no site is to be asked"
            seen = f"QUIC answers; a whole request could not be tried, as {why}"
            yield Row(what, promised, seen, "good", place="gate:udp", mark="answers")
        else:
            way = "no answer by QUIC; a network on the way may drop UDP"
            yield Row(what, promised, way, "bad", place="gate:udp", mark="no answer")


# ---- headers

_PRESENT: Final = ("strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy")
_ABSENT: Final = ("server", "via", "x-powered-by")


def _headers(sites: list[Found], promises: Promises) -> Iterator[Row]:
    promised = f"{', '.join(_PRESENT)}; no {', '.join(_ABSENT)}"
    for domain, found in _by_domain(sites).items():
        seen, state = _joined({one["address"]: _of_answer(one["secure"]) for one in found})
        yield Row(domain, promised, seen, state, promises.domains[domain])


def _of_answer(secure: Found) -> Judged:
    """What is wrong with the headers of an answer."""
    if "error" in secure:
        return secure["error"], "untried"
    if "sleeps" in secure:
        return _NOT_WOKEN, "untried"
    missing = [name for name in _PRESENT if not secure["headers"].get(name)]
    extra = [name for name in _ABSENT if secure["headers"].get(name)]
    said = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"told: {', '.join(extra)}"] * bool(extra)
    return "; ".join(said) or "all are there, and nothing of the software is told", judged(not said)
