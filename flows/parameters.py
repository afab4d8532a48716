"""Types of flow parameters: what is refused before a run starts. Docstrings of the flows describe them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Source = Annotated[str, Field(max_length=100)]
Database = Annotated[str, Field(max_length=64)]
DatabaseName = Annotated[str, Field(min_length=1, max_length=64)]
Location = Annotated[str, Field(min_length=1, max_length=100)]
Snapshot = Annotated[str, Field(min_length=1, max_length=300)]
KeyId = Annotated[str, Field(max_length=100)]
Keep = Annotated[str, Field(max_length=20)]
Label = Annotated[str, Field(max_length=200)]
Names = Annotated[list[str], Field(max_length=1000)]
Count = Annotated[int, Field(ge=1, le=10_000)]
