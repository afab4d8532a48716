"""Addresses as settings give them, and as people may see them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_HTTP = re.compile(r"https?://[^/\s?#]+")


def bare(url: str) -> str:
    """An address without the user, the password and the parameters that may stand in it."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url.rpartition("@")[2].partition("?")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def require_http(url: str, setting: str) -> str:
    """The same address.

    Raises:
        ValueError: It has no scheme, or no host; names the setting, and no secret.
    """
    if not _HTTP.match(url):
        raise ValueError(f"{setting} is not of the form https://HOST or http://HOST:PORT, with its scheme")
    return url
