"""The encodings that cloud-init takes: the same input gives the same bytes on any day and machine."""

from __future__ import annotations

import base64
import lzma
import zlib
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

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
_UNPACK: Final = (
    "import base64,lzma,os,sys\n"
    f"if not os.path.exists('{COMPLETE}'):\n"
    "{decode}"
    " d=lzma.decompress(b).split(b'\\0');n=len(d)//3\n"
    " for p,m,c in zip(d,d[n:],d[2*n:]):\n"
    "  os.makedirs(os.path.dirname(p),exist_ok=True)\n"
    "  open(p,'wb').write(c);os.chmod(p,int(m,8))\n"
)
_DECODE_DIGITS: Final = (
    " n=0\n for c in sys.argv[1].encode():\n  if c>32:n=n*93+c-33-(c>39)\n b=n.to_bytes(n.bit_length()+7>>3,'big')\n"
)
_DECODE_BASE64: Final = " b=base64.b64decode(sys.argv[1])\n"
# Linux takes no longer argument (MAX_ARG_STRLEN).
_LONGEST_ARGUMENT: Final = 131_071


def packed(spec: Spec, host: Host, on: On, *, binary: bool = False) -> bytes | None:
    """The cloud-config with its files as one block that bootcmd unpacks: in ASCII, or with `binary` as gzip.

    The block of the one is a number of base 93. That of the other is base64: the 6 bits that each of its characters
    takes in gzip are all that it holds, so LZMA's size is kept.
    None when a file holds NUL, which separates them, or the block is longer than an argument may be.
    """
    files = host.only(*PARTS[on])
    if any(b"\0" in file.content for file in files):
        return None
    content = _lzma(_joined(files))
    if len(content) > _LONGEST_ARGUMENT:
        return None
    # YAML folds the ends of lines to spaces, which the digits' decoder skips. Gzip passes through no editor and no
    # mail: one line then, as 64 characters are what six bits can tell apart.
    block = (base64.b64encode(content) if binary else _lines(_digits(content))).decode().rstrip()
    if len(block) > _LONGEST_ARGUMENT:
        return None
    unpack = _UNPACK.replace("{decode}", _DECODE_BASE64 if binary else _DECODE_DIGITS)
    code = "".join(f"    {line}\n" for line in unpack.splitlines())
    indented = block.replace("\n", "\n   ")
    command = f"- - python3\n  - -c\n  - |\n{code}  - '{indented}'\n"
    head, tail = head_and_tail(spec, ascii_only=True)
    document = head.replace("write_files:\n", command).encode("ascii") + tail.encode("ascii")
    return gzip(document) if binary else document


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


def _digits(content: bytes) -> bytes:
    """The bytes, which begin with no zero, as one number of base 93: its digits are `!` to `~` without `'`."""
    number, found = int.from_bytes(content, "big"), bytearray()
    while number:
        # Four digits at a time: a long number is slow to divide.
        number, four = divmod(number, 93**4)
        for _ in range(4):
            four, digit = divmod(four, 93)
            found.append(33 + digit + (digit > 5))
    return bytes(found[::-1]).lstrip(b"!")


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
