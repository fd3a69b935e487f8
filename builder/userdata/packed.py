"""The cloud-config for who takes text only, and little of it: the files as one block, which its bootcmd lays down.

LZMA knows the whole of the text where deflate knows 32 KiB of it, and base85 costs a quarter where base64 costs a
third: an eighth less than a compressed multipart. It is unpacked when write_files would write, before sshd starts.
"""

from __future__ import annotations

import base64
import lzma
from typing import TYPE_CHECKING, Final

from builder.userdata.cloudconfig import COMPLETE, PARTS, around

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.host import File, Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

# Text: literal context of four bits, no alignment. Debian's own Python reads this form without being told the filter.
_FILTERS: Final = [
    {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0, "nice_len": 273}
]
# Short enough for every editor and field; YAML folds the line ends to spaces.
_LINE: Final = 996
# Until provisioning is complete every boot lays the files down again, as the marks of write_files are taken away.
_UNPACK: Final = (
    "import base64,lzma,os,sys\n"
    f"if not os.path.exists('{COMPLETE}'):\n"
    " d=iter(lzma.decompress(base64.b85decode(sys.argv[1].replace(' ',''))).split(b'\\0'))\n"
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
    """Path, mode and content of each file, separated by NUL; compressed, in base85."""
    fields = b"\0".join(part for file in files for part in (file.path.encode(), file.laid.encode(), file.content))
    return base64.b85encode(compress(fields)).decode()


def compress(content: bytes) -> bytes:
    """LZMA in the form of .lzma files, the shortest of all."""
    return lzma.compress(content, format=lzma.FORMAT_ALONE, filters=_FILTERS)


def _lines(text: str) -> list[str]:
    return [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
