"""Texts of problems with volumes, files, configs and secrets in compose files."""

from __future__ import annotations

from typing import Final

from builder.messages import Text

VOLUME_FORM: Final = Text("this is no volume", "as in name:/path, ./path:/path or ./path:/path:ro")
VOLUME_OPTION: Final = Text("a volume has no option `{option}` here", "ro, rw or nocopy")
VOLUME_TARGET: Final = Text("`{path}` is no place in the container for a volume", "a path below /, as in /data")
VOLUME_TWICE: Final = Text("something is mounted on {path} already", "keep one of them")
VOLUME_NAME: Final = Text("`{name}` is not the name of a volume", "a path of your own starts with ./")
VOLUME_UNDECLARED: Final = Text(
    "the volume {name} is not declared",
    "add it under `volumes:` at the top level; a directory is written ./{name}",
)
VOLUME_TYPE: Final = Text("mounts of type {name} are not made", "volume, bind or tmpfs")
TMPFS_OPTION: Final = Text("tmpfs has no option `{option}` here", "size=64m, mode=1777, ro, exec, …")
TMPFS_OWNER: Final = Text(
    "a tmpfs belongs to root here: {options} becomes mode=1777, so that each user of the container can write to it",
    "write mode=1777 yourself, without uid and gid",
    "warning",
)
BIND_OUTSIDE: Final = Text(
    "{path} is outside of the stack's directory", "move it beside the compose file; nothing else comes along"
)
BIND_EVERYTHING: Final = Text(
    "the whole directory cannot be mounted: the app's code belongs in its image",
    "build an image, and mount single files or directories where they are needed",
)
BIND_HOME: Final = Text("the server has no home directory of yours", "move it beside the compose file, as in ./data")
BIND_WINDOWS: Final = Text("this is a path of Windows", "write it relative to the compose file, as in ./data")
BIND_ENGINE: Final = Text(
    "no container gets the engine's socket: who holds it holds every container",
    "leave this service out: EasyRunner's own proxy, updates and logs take its place",
)
BIND_TIMEZONE: Final = Text(
    "files of the host are not mounted", "set the time zone in `environment`, as in TZ: Europe/Paris"
)
BIND_SYSTEM: Final = Text(
    "{path} is the host's own, and no stack sees it",
    "remove it; a service that watches the host does not fit in a stack",
)
BIND_ABSOLUTE: Final = Text(
    "{path} is a path of the host, on which nothing of yours is",
    "use a named volume for data, or a file beside the compose file",
)
BIND_MISSING: Final = Text("there is no {path} beside the compose file", "add it, or correct the path")
BIND_READ_ONLY: Final = Text(
    "{path} comes along with the stack and is mounted read-only",
    "add :ro to say so; for data that the app writes, use a named volume",
    "warning",
)
BIND_DIRECTORY: Final = Text(
    "{path} does not exist here, so it becomes an empty directory that the app can write to",
    "if it should be a file, put it beside the compose file",
    "warning",
)
BIND_LARGE: Final = Text(
    "{path} is too large to come along ({files} files; 300 files and 1 MiB are the most)",
    "put it into an image, or into a named volume once the server runs",
)
BIND_SPECIAL: Final = Text("{path} is not a file", "only files come along with a stack")
BIND_SECRET: Final = Text(
    "{path} holds a private key, and would lie in user-data in the clear",
    "use `secrets:` with `external: true`, and push the key once the server runs",
)
CONFIG_OWNER: Final = Text(
    "uid, gid and mode are left out: the file is the host's, and every service that mounts it can read it",
    None,
    "warning",
)
SOURCE_UNDECLARED: Final = Text("{name} is not declared", "add it under `{kind}:` at the top level")
SOURCE_NAME: Final = Text("`{name}` cannot be a name here", "letters, digits, `.`, `_` and `-`")
SECRET_VALUE: Final = Text(
    "the value of a secret would land in user-data, which others can read",
    "write `external: true` and push the value once the server runs",
)
