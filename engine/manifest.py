"""What a backup is: names, facts, digests and a signature, as one JSON document.

A backup exists only when its signed manifest does. The document is signed JSON (see
``engine.signed``), so nobody without the key can write or alter
one. Format version 1; readers refuse a higher version in words.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine import names
from engine.errors import IntegrityError, WrongKey
from engine.signed import MacKeys, seal, unseal

FORMAT = 1


class OtherSite(IntegrityError):
    """It is whole, and of another site that has the same key and folder."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cipher(_Part):
    """How the stored file was encrypted; enough for ``openssl enc -d`` by hand."""

    name: str = "aes-256-cbc"
    kdf: str = "pbkdf2-hmac-sha256"
    iterations: int = 10_000
    key_id: str


class StoredFile(_Part):
    """One stored file: its name beside the manifest, its bytes, and what they unpack to."""

    file: str
    role: str = Field("data", description="data, accounts, globals, properties")
    size: int = Field(description="Stored bytes, encrypted.")
    sha256: str = Field(description="Of the stored bytes.")
    plain_size: int = Field(description="Bytes before compression.")
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    cipher: Cipher


class Server(_Part):
    """The server that was backed up, and the program that did it."""

    flavour: str = Field(description="mysql, mariadb, postgres")
    version: str
    tool: str = ""
    tool_version: str = ""
    uuid: str = Field("", description="MySQL server_uuid, or PostgreSQL system identifier.")


class LogPosition(_Part):
    """Where the server's log stood at the dump's snapshot."""

    binlog_file: str = ""
    binlog_position: int = 0
    gtid: str = ""
    lsn: str = ""
    timeline: int = 0


class Origin(_Part):
    """For a promotion, or what was encrypted anew: the manifest it was made from."""

    file: str
    tier: str
    taken_at: datetime
    key_id: str = Field(default="", description="Where it was encrypted anew: the key of its origin.")


class Manifest(BaseModel):
    """Everything known about one backup at the moment it was made. Never changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    site: str
    source: str = Field(description="Name of the source in the site: mysql, postgres, crm...")
    kind: str = Field(description="What it is: mysql, postgres, volume, bucket...")
    tier: str
    database: str = Field(description="As the server calls it; for other kinds the volume, bucket...")
    label: str = ""
    file: str = Field(description="Name of the data file; the manifest is this name + .json.")
    started_at: datetime
    finished_at: datetime
    files: list[StoredFile] = Field(description="The data file first, then its companions.")
    dump_format: str = Field("sql", description="sql, pg_custom, tar, bucket, n8n")
    server: Server | None = None
    log: LogPosition = LogPosition()
    rows: dict[str, int] = Field(default_factory=dict, description="By table, at the dump's own snapshot.")
    uncounted: list[str] = Field(default_factory=list, description="Tables the site leaves out of counting.")
    schema_sha256: str = Field("", description="Fingerprint of the schema's definitions.")
    contents: dict[str, Any] = Field(default_factory=dict, description="Facts particular to the kind.")
    warnings: list[str] = Field(default_factory=list)
    incomplete: list[str] = Field(
        default_factory=list, description="What could not be read, each named: such a backup is not counted as good."
    )
    adopted: bool = Field(False, description="Written for a file that another tool made.")
    origin: Origin | None = None
    tool_version: str = Field("", description="Version of backup-flows.")
    recovery_point: str = ""

    @property
    def data(self) -> StoredFile:
        return self.files[0]

    @property
    def stored_bytes(self) -> int:
        return sum(part.size for part in self.files)

    @property
    def key_ids(self) -> set[str]:
        """Every key that a restore needs: those of its own files, and of what these lean on (a bucket's contents)."""
        leant_on = self.contents.get("keys", ()) if self.dump_format == "bucket" else ()
        return {part.cipher.key_id for part in self.files} | {str(each) for each in leant_on}

    @property
    def total_rows(self) -> int:
        return sum(self.rows.values())

    @property
    def holds(self) -> str:
        """What is in it, for people: ``3 tables, 2,100 rows`` or ``120 files, 14 directories, 9 links``."""
        counted = _COUNTED.get(self.dump_format)
        counts = (
            [(int(self.contents.get(what, 0)), what) for what in counted]
            if counted
            else [(len(self.rows), "tables"), (self.total_rows, "rows")]
        )
        told = [f"{count:,} {_singular(what) if count == 1 else what}" for count, what in counts]
        if self.dump_format == "bucket":
            told.append(f"{int(self.contents.get('copied', 0)):,} copied anew")
        if self.dump_format == "n8n":
            told[0] += f" ({len(self.contents.get('active', ()))} active)"
        return ", ".join(told)

    @property
    def is_archive(self) -> bool:
        """Is it proven by its own parts, without asking its source?"""
        return self.dump_format in _COUNTED

    @property
    def taken_at(self) -> datetime:
        parsed = names.parse_file(self.file)
        return parsed.taken_at if parsed else self.started_at


_COUNTED = {
    "tar": ("files", "directories", "links"),
    "containers": ("containers", "images", "networks"),
    "image": ("layers",),
    "bucket": ("objects",),
    "n8n": ("workflows", "credentials", "tags"),
}
"""By format of what is no database: the facts that say how much it holds."""


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") else word[:-1]


def sign(manifest: Manifest, keys: MacKeys) -> bytes:
    """The manifest as signed bytes, ready to store. Signed with the key of its data file."""
    return seal(manifest.model_dump(mode="json"), keys, manifest.data.cipher.key_id)


def open_signed(data: bytes, keys: MacKeys, *, file: str, site: str | None = None) -> Manifest:
    """Check a stored manifest and read it.

    Args:
        data: The stored bytes.
        keys: The ring that must hold its key.
        file: The backup's file name under which it was found; a swapped manifest is refused.
        site: The site it must belong to, if known.

    Raises:
        IntegrityError: Not a manifest, altered, or it belongs to another backup; OtherSite: to another site.
        WrongKey: The ring does not hold its key, or holds another key under that id.
    """
    body = unseal(data, keys, what=f"The manifest of {file}", needed_for=file)
    version = body.get("format")
    if not isinstance(version, int):
        raise IntegrityError(f"The manifest of {file} is damaged: it does not say its format.")
    if version > FORMAT:
        raise IntegrityError(
            f"The manifest of {file} has format {version}; this release reads up to {FORMAT}.",
            remedy="upgrade backup-flows",
        )
    try:
        manifest = Manifest.model_validate(body)
    except ValidationError as error:
        count = error.error_count()
        raise IntegrityError(f"The manifest of {file} is not readable: {count} fields are wrong.") from error
    if not manifest.files or manifest.data.file != manifest.file:
        raise IntegrityError(f"The manifest of {file} is not readable: it lists no data file of its name.")
    if manifest.file != file:
        raise IntegrityError(
            f"The manifest beside {file} belongs to {manifest.file}: the two were swapped.",
            kept="nothing was decrypted",
        )
    if site is not None and manifest.site != site:
        raise OtherSite(
            f"The manifest of {file} belongs to site {manifest.site!r}, not {site!r}.", kept="nothing was decrypted"
        )
    return manifest


__all__ = [
    "FORMAT",
    "Cipher",
    "LogPosition",
    "MacKeys",
    "Manifest",
    "Origin",
    "OtherSite",
    "Server",
    "StoredFile",
    "WrongKey",
    "open_signed",
    "sign",
]
