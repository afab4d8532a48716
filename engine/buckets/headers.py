"""Texts that travel as headers: user metadata, content types, names of files.

Headers have bytes, and boto takes each for a letter of Latin-1. Many clients and servers mean UTF-8; S3 itself gives
what is not ASCII in the form of mail headers (RFC 2047), and takes it so.
"""

from __future__ import annotations

import email.header
from typing import Any

from botocore import handlers

_WITH_METADATA = ("PutObject", "CreateMultipartUpload")


def text_of(value: str) -> str:
    """What boto gave of a header, read as UTF-8 where it is that. What was read so already stays as it is."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def as_mail(value: str) -> str:
    """In the form of mail headers where it is not ASCII."""
    text = text_of(value)
    return text if text.isascii() else email.header.Header(text, "utf-8", maxlinelen=10_000).encode()


def meaning(value: str) -> str:
    """For comparing: the text itself, however it travelled. Spaces around it are no part of a header's value."""
    text = text_of(value)
    if "=?" in text and text.isascii():
        try:
            text = str(email.header.make_header(email.header.decode_header(text)))
        except (LookupError, ValueError):  # it only looks so
            pass
    return text.strip()


def allow_utf8(client: Any) -> None:
    """Have a client send user metadata in UTF-8, as it sends every other header; boto refuses that by default."""
    for operation in _WITH_METADATA:
        client.meta.events.unregister(f"before-parameter-build.s3.{operation}", handlers.validate_ascii_metadata)
