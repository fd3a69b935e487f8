"""The cloud-config for who takes text only, and little of it: the files as one block, which its bootcmd lays down.

LZMA knows the whole of the text where deflate knows 32 KiB of it, and digits of base 93, every printable character
but the quote around them, cost 22 % where base64 costs a third: a seventh less than a compressed multipart. It is
unpacked when write_files would write, before sshd starts.
"""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Final

from builder.userdata.cloudconfig import COMPLETE, PARTS, around

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.host import File, Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

# Text: literal context of three bits, no alignment. Debian's own Python reads this form without being told the filter.
_FILTERS: Final = [
    {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0, "nice_len": 273}
]
# Short enough for every editor and field; YAML folds the line ends to spaces.
_LINE: Final = 996
# Until provisioning is complete every boot lays the files down again, as the marks of write_files are taken away.
_UNPACK: Final = (
    "import lzma,os,sys\n"
    f"if not os.path.exists('{COMPLETE}'):\n"
    " n=0\n"
    " for c in sys.argv[1].encode():\n"
    "  if c>32:n=n*93+c-33-(c>39)\n"
    " d=iter(lzma.decompress(n.to_bytes(n.bit_length()+7>>3,'big')).split(b'\\0'))\n"
    " for p,m,c in zip(d,d,d):\n"
    "  os.makedirs(os.path.dirname(p),exist_ok=True)\n"
    "  open(p,'wb').write(c);os.chmod(p,int(m,8))\n"
)


def packed(spec: Spec, host: Host, on: On) -> bytes | None:
    """The document, in ASCII; None when a file holds the byte that separates them."""
    files = host.only(*PARTS[on])
    if any(b"\0" in file.content for file in files):
        return None
    head, tail = around(spec, ascii_only=True)
    code = "".join(f"    {line}\n" for line in _UNPACK.splitlines())
    data = "".join(f"   {line}\n" for line in _lines(block(files)))
    command = f"- - python3\n  - -c\n  - |\n{code}  - '{data.lstrip().rstrip()}'\n"
    return head.replace("write_files:\n", command).encode("ascii") + tail.encode("ascii")


def block(files: Iterable[File]) -> str:
    """Path, mode and content of each file, separated by NUL; compressed, as digits."""
    fields = b"\0".join(part for file in files for part in (file.path.encode(), file.laid.encode(), file.content))
    return digits(compress(fields))


def digits(content: bytes) -> str:
    """The bytes, which begin with no zero, as one number of base 93: its digits are `!` to `~` without `'`."""
    number, found = int.from_bytes(content, "big"), bytearray()
    while number:
        number, digit = divmod(number, 93)
        found.append(33 + digit + (digit > 5))
    return found[::-1].decode()


def compress(content: bytes) -> bytes:
    """LZMA in the form of .lzma files, the shortest of all."""
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=_FILTERS)


def _lines(text: str) -> list[str]:
    return [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
