"""What all blocks here share."""

from __future__ import annotations

import re

from prefect.blocks.core import Block
from pydantic import ConfigDict

LENIENT = ConfigDict(extra="ignore")
"""A document saved by a newer or older release still loads; site files, unlike documents, are strict."""


def plain(block: Block, *skip: str) -> dict[str, object]:
    """The block's own fields and values as Python objects, secrets still wrapped."""
    return {name: getattr(block, name) for name in type(block).model_fields if name not in skip}


def document_name(*parts: str) -> str:
    """A name that Prefect accepts for a document: lower case letters, digits and dashes."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part)
