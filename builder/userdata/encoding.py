"""The encodings that cloud-init takes: the same input gives the same bytes on any day and machine."""

from __future__ import annotations

import base64
import lzma
import zlib
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from builder.userdata import context_mixing
from builder.userdata.cloudconfig import COMPLETE, PARTS, head_and_tail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.host import File, Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

# Zopfli's search for the smallest deflate stream; more rounds win nothing that counts.
_ROUNDS: Final = 15
_LARGE: Final = 100_000


@lru_cache(maxsize=16)
def gzip(document: bytes) -> bytes:
    """Gzip without a name or a date (RFC 1952), as small as deflate gets.

    Any gunzip reads it. Against zlib at its best this saves 3 % of a small host's user-data and 18 % of a large one's.
    """
    import zopfli.gzip  # noqa: PLC0415  only who needs compression waits for it

    rounds = _ROUNDS if len(document) < _LARGE else _ROUNDS // 5
    return bytes(zopfli.gzip.compress(document, numiterations=rounds))


def least_gzip(document: bytes) -> int:
    """A size below which `gzip` will not come, found quickly: at best it is about a fifth below zlib."""
    return int(len(zlib.compress(document, 9)) * 0.75)


_MULTIPART_HEAD: Final = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=e

--e
Content-Type: application/gzip
Content-Transfer-Encoding: base64

"""
_MULTIPART_TAIL: Final = b"--e--\n"


def multipart(compressed: bytes) -> bytes:
    """A MIME message in ASCII with one part, the compressed document.

    The part alone is a message too, and shorter. The multipart around it is what people know, and what tells user-data
    from a script wherever somebody looks.
    """
    return _MULTIPART_HEAD + _lines(base64.b64encode(compressed)) + _MULTIPART_TAIL


# The cloud-config is saved in cloud.cfg.d, so that its bootcmd repairs what a power cut leaves. cloud-init's modules of
# this boot have run without it, so the script calls them.
_SCRIPT_HEAD: Final = b"""\
#!/bin/sh
set -eu
umask 077
config=/etc/cloud/cloud.cfg.d/99-easyrunner.cfg
python3 -c '
import base64, lzma, sys
text = sys.stdin.read().replace("\\n", "")
sys.stdout.buffer.write(lzma.decompress(base64.b85decode(text)))
' >$config.new <<'END'
"""
_SCRIPT_TAIL: Final = b"""\
END
sync $config.new
mv $config.new $config
umask 022
for module in set_hostname timezone users_groups write_files; do
    cloud-init single --name cc_$module --frequency always
done
/usr/lib/easyrunner/provision
"""


def script(document: bytes) -> bytes:
    """A launch script in ASCII that does what cloud-init does with the document: for who runs scripts only."""
    return _SCRIPT_HEAD + _lines(base64.b85encode(_lzma(document))) + _SCRIPT_TAIL


# Until provisioning is complete every boot writes the files again, as bootcmd takes away the marks of write_files.
_UNPACK: Final = f"""\
import math,os,sys
{context_mixing.DECODER}if not os.path.exists('{COMPLETE}'):
 d=unpack(DIGITS).split(b'\\0');n=len(d)//3
 for p,m,c in zip(d,d[n:],d[2*n:]):
  os.makedirs(os.path.dirname(p),exist_ok=True)
  open(p,'wb').write(c);os.chmod(p,int(m,8))
"""
# In ASCII the digits are `!` to `~` without `'`, in lines whose ends YAML folds to spaces. In gzip 64 characters are
# what six bits can tell apart: `0` to `o`.
_ASCII_DIGITS: Final = bytes(code for code in range(33, 127) if code != ord("'"))
_BINARY_DIGITS: Final = bytes(range(48, 112))
_READ_ASCII: Final = "c-33-(c>39) for c in sys.argv[1].encode() if c>32"
_READ_BINARY: Final = "c-48 for c in sys.argv[1].encode()"
# Unpacking takes a server 20 seconds for each MB; a host with so many files has no use for this form, as the template
# of what its stacks share is smaller.
_MOST_PACKED: Final = 98_304
# Linux takes no longer argument (MAX_ARG_STRLEN).
_LONGEST_ARGUMENT: Final = 131_071


def packed(spec: Spec, host: Host, on: On, *, binary: bool = False) -> bytes | None:
    """The cloud-config with its files as one block that bootcmd unpacks: in ASCII, or with `binary` as gzip.

    The block is compressed by context mixing, and its decoder is there in Python.
    None when a file holds NUL, which separates them, or the files or the block are too long.
    """
    files = host.only(*PARTS[on])
    content = _joined(files)
    if any(b"\0" in file.content for file in files) or len(content) > _MOST_PACKED:
        return None
    digits, read = (_BINARY_DIGITS, _READ_BINARY) if binary else (_ASCII_DIGITS, _READ_ASCII)
    found = bytes(digits[digit] for digit in _mixed(content, len(digits)))
    # Gzip passes through no editor and no mail: one line then.
    block = (found if binary else _lines(found)).decode().rstrip()
    if len(block) > _LONGEST_ARGUMENT:
        return None
    unpack = _UNPACK.replace("DIGITS", read).replace("BASE", str(len(digits))).replace("SIZE", str(len(content)))
    code = "".join(f"   {line}\n" for line in unpack.splitlines())
    indented = block.replace("\n", "\n   ")
    command = f"- - python3\n  - -c\n  - |\n{code}  - '{indented}'\n"
    head, tail = head_and_tail(spec, ascii_only=True)
    document = head.replace("write_files:\n", command).encode("ascii") + tail.encode("ascii")
    return gzip(document) if binary else document


@lru_cache(maxsize=8)
def _mixed(content: bytes, base: int) -> list[int]:
    return context_mixing.encode(content, base)


# By what their names end with: neighbours that are alike take less. Found by trying orders.
_KINDS: Final = (
    *(".rules", ".local", ".conf", ".socket", ".caddy", "", ".sh", ".env", ".sed", ".awk", ".filter", ".nat", ".net"),
    *(".service", ".slice", ".timer", ".container", ".volume", ".network"),
)


def _joined(files: Iterable[File]) -> bytes:
    """The paths of all files, then their modes, then their contents, separated by NUL.

    A stack's files stand together, as they are alike, and then those of one kind.
    """
    ordered = sorted(files, key=lambda file: (file.stack, _kind(file), file.path))
    columns = zip(*((file.path.encode(), file.initial_mode.encode(), file.content) for file in ordered), strict=True)
    return b"\0".join(field for column in columns for field in column)


def _kind(file: File) -> int:
    suffix = PurePosixPath(file.path).suffix
    return _KINDS.index(suffix) if suffix in _KINDS else len(_KINDS)


# Text: literal context of three bits, no alignment. Debian's own Python reads this form without being told the filter.
_FILTERS: Final = [
    {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0, "nice_len": 273}
]


def _lzma(content: bytes) -> bytes:
    """LZMA in the form of .lzma files, which has the smallest header of all."""
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=_FILTERS)


# A multiple of 4, below the 998 characters that RFC 5322 allows a line; short enough for every editor and field.
_LINE: Final = 996


def _lines(text: bytes) -> bytes:
    return b"".join(text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE))
