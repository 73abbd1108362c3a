"""Envelopes: bytes sealed with AES-256-GCM, bound to the place where they lie.

An envelope is a version of one byte, a random nonce of 96 bits, and the ciphertext with its tag.
It knows no key's name and no place: both are for the caller to put into `aad`.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ai_stack.errors import StackError

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
VERSION = b"\x01"


class Unopened(StackError):
    """Something sealed cannot be opened: its key is another one, or it was changed or moved."""


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """An envelope of the plaintext that opens with this key (32 bytes) and this `aad` alone."""
    nonce = os.urandom(NONCE_BYTES)
    return b"".join((VERSION, nonce, AESGCM(key).encrypt(nonce, plaintext, VERSION + aad)))


def open(key: bytes, envelope: bytes, aad: bytes) -> bytes:
    """The plaintext of an envelope; Unopened when any of the three is not what it was."""
    head, nonce, sealed = envelope[:1], envelope[1 : 1 + NONCE_BYTES], envelope[1 + NONCE_BYTES :]
    if head != VERSION or len(sealed) < TAG_BYTES:
        raise Unopened
    try:
        return AESGCM(key).decrypt(nonce, sealed, VERSION + aad)
    except InvalidTag:
        raise Unopened from None


def derive(key: bytes, purpose: str) -> bytes:
    """A key of its own for one purpose, by HKDF-SHA256 from a random one."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


def place(table: str, row: object, column: str, key_id: object) -> bytes:
    """The `aad` of what lies in one column of one row, sealed with one key."""
    return f"{table}|{row}|{column}|{key_id}".encode()
