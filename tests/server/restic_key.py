"""A repository's key that opens in a millisecond: restic makes each so that one of its calls takes half a second.

The same key of the data, under the same password; only the hash that the password goes through is a cheap one.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

# Restic's own is 32,768 and more.
_CHEAP = 1024


def cheapened(content: bytes, password: str) -> tuple[str, bytes]:
    """The name and the content of a key beside this one, to be put in its place."""
    key = json.loads(content)
    sealed = b64decode(key["data"])
    opened = _cipher(_derived(key, password), sealed[:16], sealed[16:-16])
    key |= {"N": _CHEAP, "r": 8, "p": 1}
    keys, nonce = _derived(key, password), os.urandom(16)
    hidden = _cipher(keys, nonce, opened)
    key["data"] = b64encode(nonce + hidden + _tag(keys, nonce, hidden)).decode()
    new = json.dumps(key).encode()
    return hashlib.sha256(new).hexdigest(), new


def _derived(key: dict[str, str | int], password: str) -> bytes:
    """32 bytes for AES, 16 and 16 for Poly1305-AES."""
    salt = b64decode(str(key["salt"]))
    n, r, p = (int(key[name]) for name in "Nrp")
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=64)


def _cipher(keys: bytes, nonce: bytes, text: bytes) -> bytes:
    """The same way there and back."""
    return Cipher(algorithms.AES(keys[:32]), modes.CTR(nonce)).encryptor().update(text)


def _tag(keys: bytes, nonce: bytes, hidden: bytes) -> bytes:
    mask = Cipher(algorithms.AES(keys[32:48]), modes.ECB()).encryptor().update(nonce)
    return Poly1305.generate_tag(keys[48:] + mask, hidden)
