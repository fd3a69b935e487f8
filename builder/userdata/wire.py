"""The encodings that cloud-init takes: the same input gives the same bytes on any day and machine."""

from __future__ import annotations

import base64
import gzip
from typing import Final

from builder.providers import Encoding

# A multiple of 4, below the 998 characters that RFC 5322 allows a line.
_LINE: Final = 996
_HEAD: Final = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="="

--=
Content-Type: application/gzip
Content-Transfer-Encoding: base64

"""
_TAIL: Final = "--=--\n"


def encode(document: bytes, encoding: Encoding) -> bytes:
    """A `#cloud-config` document in an encoding."""
    match encoding:
        case Encoding.PLAIN:
            return document
        case Encoding.GZIP:
            return compress(document)
        case Encoding.MIME:
            return multipart(compress(document))


def compress(document: bytes) -> bytes:
    """Gzip without a name or a date."""
    return gzip.compress(document, compresslevel=9, mtime=0)


def multipart(compressed: bytes) -> bytes:
    """A MIME message in ASCII with one part, the compressed document.

    A message of one part without the multipart around it is shorter and would do for cloud-init; some providers look
    for the word to tell user-data from a script.
    """
    text = base64.b64encode(compressed).decode()
    lines = "".join(f"{text[at : at + _LINE]}\n" for at in range(0, len(text), _LINE))
    return f"{_HEAD}{lines}{_TAIL}".encode()
