# mypy: ignore-errors
"""Runs inside a base tree, with its cloud-init: what the real one makes of user-data, as JSON on stdout.

Everything up to the system calls is cloud-init's own: finding the form, unpacking, Jinja, YAML, write_files.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from pathlib import Path

from cloudinit.config import cc_write_files
from cloudinit.handlers import jinja_template

from cloudinit import helpers, user_data, util


def main() -> None:
    """Read the file that is named; print its types and files."""
    blob = Path(sys.argv[1]).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        paths = helpers.Paths({"cloud_dir": name, "run_dir": name})
        message = user_data.UserDataProcessor(paths).process(blob)
    parts = [part for part in message.walk() if not part.is_multipart()]
    texts = [util.decode_binary(util.fully_decoded_payload(part)) for part in parts]
    types = [part.get_content_type() for part in parts]
    if types == ["text/jinja2"]:
        texts = [jinja_template.render_jinja_payload(texts[0], "part-001", {})]
    config = util.load_yaml(texts[0])
    files = _files(config) if "write_files" in config else _unpacked(config["bootcmd"][-1])
    sys.stdout.write(json.dumps({"types": types, "files": files, "keys": sorted(config)}))


def _unpacked(command: list[str]) -> dict[str, list[object]]:
    """What the block's own program writes: it runs as it is, but below another root."""
    *_, code, data = command
    with tempfile.TemporaryDirectory() as root:

        def below(path: str | bytes) -> str:
            return root + os.fsdecode(path)

        real = os.makedirs, os.chmod, os.path.exists
        os.makedirs = lambda path, exist_ok: Path(below(path)).mkdir(parents=True, exist_ok=exist_ok)
        os.chmod = lambda path, mode: real[1](below(path), mode)
        os.path.exists = lambda path: real[2](below(path))
        sys.argv = ["-c", data]
        exec(code, {"open": lambda path, how: open(below(path), how)})  # noqa: PTH123, SIM115
        os.makedirs, os.chmod, os.path.exists = real
        found = [path for path in Path(root).rglob("*") if path.is_file()]
        return {f"/{path.relative_to(root)}": _entry(path) for path in found}


def _entry(path: Path) -> list[object]:
    mode = f"0{path.stat().st_mode & 0o7777:o}"
    return [mode, f"{path.owner()}:{path.group()}", base64.b64encode(path.read_bytes()).decode()]


def _files(config: dict[str, list[dict[str, str]]]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}

    def write(path: str, content: str | bytes, omode: str = "wb", mode: int = 0o644) -> None:
        raw = content.encode() if isinstance(content, str) else content
        found[path] = [f"0{mode:o}", base64.b64encode(raw).decode()]

    def own(path: str, user: str | None = None, group: str | None = None) -> None:
        found[path].insert(1, f"{user}:{group}")

    cc_write_files.util.write_file = lambda path, content, omode="wb", mode=0o644, **_: write(
        path, content, omode, mode
    )
    cc_write_files.util.ensure_dir = lambda *_, **__: None
    cc_write_files.util.chownbyname = own
    cc_write_files.write_files("write_files", config["write_files"], "root:root")
    return found


main()
