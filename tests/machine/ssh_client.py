"""An SSH client that says what it likes: any version, user and service, up to the end of its connection.

OpenSSH's own client asks for one service only; a server must bear all that a peer can send. As a program it reads a
JSON list of connections, each {"version": ..., "asks": [[user, service], ...]}, makes them one after the other, and
writes the local port of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import sys
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEX, _HOST_KEY, _CIPHER = b"mlkem768x25519-sha256", b"ssh-ed25519", b"aes256-gcm@openssh.com"
_MAC = b"hmac-sha2-256-etm@openssh.com"
_KEXINIT, _NEWKEYS, _HYBRID_INIT, _SERVICE, _USERAUTH = 20, 21, 30, 5, 50
_MLKEM_CIPHERTEXT = 1088


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _taken(data: bytes) -> tuple[bytes, bytes]:
    size = struct.unpack(">I", data[:4])[0]
    return data[4 : 4 + size], data[4 + size :]


class Client:
    """One connection, past the exchange of keys; the host's key is not looked at."""

    def __init__(self, address: str, version: bytes = b"SSH-2.0-er") -> None:
        self.socket = socket.create_connection((address, 22), timeout=30)
        self.port: int = self.socket.getsockname()[1]
        self._read = self.socket.makefile("rb")
        self._seal: AESGCM | None = None
        self._open: AESGCM | None = None
        self._counts = [0, 0]
        self.socket.sendall(version + b"\r\n")
        self._exchange(version)

    def _exchange(self, version: bytes) -> None:
        theirs = self._read.readline().rstrip(b"\r\n")
        lists = (_KEX, _HOST_KEY, _CIPHER, _CIPHER, _MAC, _MAC, b"none", b"none", b"", b"")
        mine = bytes([_KEXINIT]) + os.urandom(16) + b"".join(map(_string, lists)) + bytes(5)
        self.send(mine)
        offer = self.receive(_KEXINIT)
        lattice, curve = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        share = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self.send(bytes([_HYBRID_INIT]) + _string(share))
        key, rest = _taken(self.receive(_HYBRID_INIT + 1)[1:])
        answer, _ = _taken(rest)
        both = lattice.decapsulate(answer[:_MLKEM_CIPHERTEXT])
        both += curve.exchange(X25519PublicKey.from_public_bytes(answer[_MLKEM_CIPHERTEXT:]))
        secret = _string(hashlib.sha256(both).digest())
        texts = (version, theirs, mine, offer, key, share, answer)
        session = hashlib.sha256(b"".join(map(_string, texts)) + secret).digest()
        self.send(bytes([_NEWKEYS]))
        self.receive(_NEWKEYS)
        self._ivs = [self._derived(secret, session, letter)[:12] for letter in (b"A", b"B")]
        self._seal, self._open = (AESGCM(self._derived(secret, session, letter)) for letter in (b"C", b"D"))

    @staticmethod
    def _derived(secret: bytes, session: bytes, letter: bytes) -> bytes:
        return hashlib.sha256(secret + session + letter + session).digest()

    def _nonce(self, side: int) -> bytes:
        """RFC 5647: the last eight bytes count the packets."""
        iv, self._counts[side] = self._ivs[side], self._counts[side] + 1
        return iv[:4] + struct.pack(">Q", (struct.unpack(">Q", iv[4:])[0] + self._counts[side] - 1) % (1 << 64))

    def send(self, payload: bytes) -> None:
        """Send one packet."""
        block, head = (16, 1) if self._seal else (8, 5)
        padding = block - (head + len(payload)) % block
        padding += block if padding < 4 else 0
        body = bytes([padding]) + payload + bytes(padding)
        size = struct.pack(">I", len(body))
        self.socket.sendall(size + (self._seal.encrypt(self._nonce(0), body, size) if self._seal else body))

    def receive(self, wanted: int) -> bytes:
        """The next packet of this kind."""
        while True:
            size = self._read.read(4)
            if len(size) < 4:
                raise ConnectionError
            length = struct.unpack(">I", size)[0]
            body = self._read.read(length + (16 if self._open else 0))
            if self._open:
                body = self._open.decrypt(self._nonce(1), body, size)
            payload = body[1 : length - body[0]]
            if payload[0] == wanted:
                return payload

    def ask(self, user: bytes, service: bytes) -> None:
        """Ask to be this user, for this service, without any proof."""
        self.send(bytes([_USERAUTH]) + _string(user) + _string(service) + _string(b"none"))


def connect(address: str, wish: dict[str, Any]) -> int:
    """Make one connection as it is wished; its local port."""
    client = Client(address, wish.get("version", "SSH-2.0-er").encode())
    try:
        client.send(bytes([_SERVICE]) + _string(b"ssh-userauth"))
        client.receive(_SERVICE + 1)
        for user, service in wish["asks"]:
            client.ask(user.encode(), service.encode())
            # The failure, or the end of the connection.
            client.receive(_USERAUTH + 1)
    except ConnectionError:
        pass
    client.socket.close()
    return client.port


if __name__ == "__main__":
    print(json.dumps([connect(sys.argv[1], wish) for wish in json.load(sys.stdin)]))
