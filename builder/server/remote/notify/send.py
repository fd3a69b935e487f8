"""Takes the queue to the channels: a webhook, a mail server, and the address of the heartbeat.

er-notify.service runs it while something is queued. A channel that does not take it is tried again after a pause that
grows; what waits meanwhile goes in one message then. Where a channel is, and its password, are secrets of the host.
"""

from __future__ import annotations

import base64
import email.message
import email.utils
import http.client
import json
import smtplib
import ssl
import time
import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import files
from builder.server.remote import common, host_secrets
from builder.server.remote.common import RemoteError
from builder.server.remote.notify import notices
from builder.server.remote.notify.notices import RESOLVED, TRIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from builder.server.remote.common import Value
    from builder.server.remote.notify.notices import Notice

CHANNELS: Final = ("webhook", "email", "heartbeat")
# Seconds: an answer that does not come within the first; the pause after a failure, which doubles up to the third.
_ANSWER, _PAUSE, _LONGEST_PAUSE = 20, 5, 900
# Seconds that a notice waits for others, so that what belongs together is one message; and how many are in one.
_GATHER, _TOGETHER = 3, 20
# Seconds between two looks at a queue in which nothing is due.
_LOOK: Final = 5


def notify_send() -> Value:
    """Send until the queue is empty."""
    pauses: dict[str, tuple[float, float]] = {}  # by channel: not before, and the pause before that
    sent = 0
    while waiting := [*notices.queued()]:
        due = [(path, one) for path, one in waiting if one.not_before <= time.time()]
        # Not by a clock that was set back meanwhile.
        is_fresh = bool(due) and 0 <= time.time() - max(one.at for _, one in due) < _GATHER
        taken = 0 if is_fresh else sum(_to_channel(name, due, pauses) for name in CHANNELS)
        sent += taken
        time.sleep(1 if taken or is_fresh else _LOOK)
        notices.tell_dropped()
    return {"sent": sent}


def _to_channel(name: str, due: Sequence[tuple[Path, Notice]], pauses: dict[str, tuple[float, float]]) -> int:
    """Send what is due to one channel, in one message; how many notices it has taken."""
    batch = [(path, one) for path, one in due if name in one.left][:_TOGETHER]
    not_before, pause = pauses.get(name, (0.0, _PAUSE / 2))
    if not batch or time.monotonic() < not_before:
        return 0
    said, is_taken = _attempt(name, [one for _, one in batch])
    _note_answer(name, said, is_taken=is_taken)
    if not is_taken:
        pause = min(2 * pause, _LONGEST_PAUSE)
        pauses[name] = (time.monotonic() + pause, pause)
        return 0
    pauses.pop(name, None)
    for path, _ in batch:
        # Another channel may have taken it meanwhile: what is on the disk counts.
        if now := notices.read(path):
            notices.rewrite(path, replace(now, left=tuple(one for one in now.left if one != name)))
    return len(batch)


def _attempt(name: str, batch: Sequence[Notice]) -> tuple[str, bool]:
    """What the channel has answered, and whether it has taken the notices."""
    settings = notices.settings() or {}
    if not settings.get(name):
        return "the spec has no such channel any more", True
    try:
        if name == "webhook":
            return _webhook(settings["webhook"], batch), True
        if name == "email":
            return _email(settings["email"], batch), True
        return _heartbeat(batch), True
    except (RemoteError, OSError, smtplib.SMTPException, http.client.HTTPException, ValueError, LookupError) as error:
        return notices.printable_line(_reason(error)), False


def _reason(error: Exception) -> str:
    if isinstance(error, RemoteError):
        return f"{error}: {error.hint}" if error.hint else str(error)
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {text}"
    return str(error) or type(error).__name__


# ---- secrets


KEPT: Final = notices.DIRECTORY / "secrets"


def secret(name: str) -> str:
    """A secret of the host; while the disk that has them is missing, which is to be told, the copy of the last time."""
    copy = KEPT / name
    disk = common.data_disk()
    if disk and not disk["device"] and copy.exists():
        return copy.read_text().strip()
    value = host_secrets.read(name)
    if disk and (not copy.exists() or copy.read_bytes() != value):
        KEPT.mkdir(mode=0o700, exist_ok=True)
        files.replace(copy, value, 0o600, owner=notices.OWNER)
    return value.decode().strip()


# ---- HTTP


def _webhook(form: str, batch: Sequence[Notice]) -> str:
    url = secret("notify-webhook")
    host = (urllib.parse.urlsplit(url).hostname or "").lower()
    if form == "auto":
        form = "slack" if host.endswith(_SLACK) else "ntfy" if host == _NTFY else "json"
    return _post(url, *FORMS[form](_name(), batch))


_SLACK, _NTFY = (".slack.com", ".slack-gov.com"), "ntfy.sh"


def _json(host: str, batch: Sequence[Notice]) -> tuple[bytes, dict[str, str]]:
    """For receivers of one's own: each notice with its parts, and all of them as `text`, which many chats read."""
    each = [
        {"key": one.key, "kind": one.kind, "stack": one.stack, "title": one.title, "text": one.text, "at": one.at}
        for one in batch
    ]
    body = {"host": host, "title": subject(host, batch), "text": text(host, batch), "notices": each}
    return json.dumps(body).encode(), {"Content-Type": "application/json"}


def _slack(host: str, batch: Sequence[Notice]) -> tuple[bytes, dict[str, str]]:
    """Slack reads three characters as the beginning of something: a text with `<!channel>` would ring for everybody."""
    plain = text(host, batch)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        plain = plain.replace(character, entity)
    return json.dumps({"text": plain}).encode(), {"Content-Type": "application/json"}


def _ntfy(host: str, batch: Sequence[Notice]) -> tuple[bytes, dict[str, str]]:
    """The text as it is; what is beside it are headers, which are ASCII, or encoded words of RFC 2047."""
    is_over = all(one.kind in {RESOLVED, TRIAL} for one in batch)
    title = subject(host, batch)
    if not title.isascii():
        title = f"=?UTF-8?B?{base64.b64encode(title.encode()).decode()}?="
    headers = {"Title": title, "Tags": "white_check_mark" if is_over else "warning"}
    body = notices.cut(text(host, batch), _NTFY_LONGEST)
    return body.encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}


# ntfy makes a file of what is longer than 4,096 bytes; a character may take four.
_NTFY_LONGEST: Final = 1000
FORMS: Final = {"json": _json, "slack": _slack, "ntfy": _ntfy}


def _heartbeat(batch: Sequence[Notice]) -> str:
    """A sign of life: a POST whose body says how many problems there are."""
    return _post(secret("notify-heartbeat"), f"{_name()}: {batch[-1].title}\n".encode(), {"Content-Type": "text/plain"})


def _post(url: str, body: bytes, headers: dict[str, str]) -> str:
    """What the other side answered. Raises RemoteError where it has not taken it; redirects are not followed."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise RemoteError("the secret is no address", "as in https://ntfy.sh/TOPIC; set it again")
    connection = _connection(parts)
    if parts.username:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers = {**headers, "Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request("POST", target, body, {"User-Agent": "easyrunner", **headers})
        answer = connection.getresponse()
        said = notices.printable_line(f"{answer.status} {answer.reason}: {answer.read(500).decode(errors='replace')}")
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise RemoteError(said)
    return said.rstrip(": ")


def _connection(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=_ANSWER)
    return http.client.HTTPSConnection(host, parts.port, timeout=_ANSWER, context=ssl.create_default_context())


# ---- e-mail


_IMPLICIT_TLS: Final = 465


def _email(settings: Value, batch: Sequence[Notice]) -> str:
    """By submission: TLS, whose certificate is checked, before the password. What the server said to the message."""
    password, context = secret("notify-smtp-password"), ssl.create_default_context()
    server, port = settings["server"].strip("[]"), settings["port"]
    if port == _IMPLICIT_TLS:
        client: smtplib.SMTP = smtplib.SMTP_SSL(server, port, _name(), timeout=_ANSWER, context=context)
    else:
        client = smtplib.SMTP(server, port, _name(), timeout=_ANSWER)
    with client:
        if port != _IMPLICIT_TLS:
            client.starttls(context=context)
        client.login(settings["username"], password)
        refused = client.send_message(_mail(settings, batch), settings["sender"], settings["to"])
    return f"taken for {', '.join(settings['to'])}" + (f", refused for {', '.join(refused)}" if refused else "")


def _mail(settings: Value, batch: Sequence[Notice]) -> email.message.EmailMessage:
    message = email.message.EmailMessage()
    message["From"], message["To"] = settings["sender"], ", ".join(settings["to"])
    message["Subject"] = subject(_name(), batch)
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = email.utils.make_msgid(domain=settings["sender"].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text(_name(), batch) + "\n")
    return message


# ---- the words


def _name() -> str:
    return common.server_env().get("NAME", "a server")


def subject(host: str, batch: Sequence[Notice]) -> str:
    """One line for all of them: what is wrong goes before what is over."""
    first = next((one for one in batch if one.kind != RESOLVED), batch[0]).title
    return notices.printable_line(
        f"{host}: {first}" if len(batch) == 1 else f"{host}: {first}, and {len(batch) - 1} more"
    )


def text(host: str, batch: Iterable[Notice]) -> str:
    """Each notice: what, of which stack, since when, what to do."""
    return "\n\n".join(f"{host}: {one.title}\n{_when(one)}{one.text}".rstrip() for one in batch)


def _when(one: Notice) -> str:
    """When it was, where it is some time ago already."""
    return f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(one.at))}\n" if time.time() - one.at > _LATE else ""


_LATE: Final = 300


# ---- how it went


_ANSWERS: Final = notices.DIRECTORY / "answers.json"


def answers() -> Value:
    """By channel the last answer: `at`, whether it was `ok`, what was `said`, and since when it fails."""
    try:
        found: Value = json.loads(_ANSWERS.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _note_answer(name: str, said: str, *, is_taken: bool) -> None:
    now, old = int(time.time()), answers().get(name, {})
    failing = None if is_taken else old.get("failing_since") or now
    one = {"at": now, "ok": is_taken, "said": said, "failing_since": failing}
    files.replace(_ANSWERS, json.dumps({**answers(), name: one}).encode(), 0o600, owner=notices.OWNER)
