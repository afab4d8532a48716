"""Compression, encryption and digests, streaming both ways in constant memory.

A stored file is gzip inside the container that ``openssl enc -aes-256-cbc -pbkdf2`` writes, so any
machine with openssl and gunzip opens it. Digests and the manifest's MAC make it authentic.
"""

from engine.codec.decode import check_stored, decode, decrypt, peek, unpack
from engine.codec.encode import EXTENSIONS, Compression, Encoded, Encoder
from engine.codec.keys import KeyRing

__all__ = [
    "EXTENSIONS",
    "Compression",
    "Encoded",
    "Encoder",
    "KeyRing",
    "check_stored",
    "decode",
    "decrypt",
    "peek",
    "unpack",
]
