"""Which kind of source takes part in the restore of a machine, when, and how. A new kind is one line here.

``restore`` is given the work and the backup of the chosen recovery point. It must be safe to repeat: a restore that
broke off calls it again. A server that has to run first is started by it (``containers.have_running``).
"""

from __future__ import annotations

from engine.restore_site.containers import restore_images
from engine.restore_site.databases import restore_database
from engine.restore_site.files import restore_config, restore_volume
from engine.restore_site.points import Piece
from engine.restore_site.services import restore_bucket, restore_n8n
from engine.restore_site.work import Kind, Stage

SERVERS = ("mysql", "postgres")


def _of(what: str, piece: Piece) -> str:
    return f"{what} {piece.target.database} from {piece.manifest.file} ({piece.manifest.holds})"


KINDS: dict[str, Kind] = {
    "images": Kind(Stage.IMAGES, restore_images, lambda piece: f"images of {piece.manifest.holds}"),
    "config": Kind(Stage.CONFIG, restore_config, lambda piece: f"{_of('config files', piece)}, put back below /"),
    "volume": Kind(Stage.VOLUMES, restore_volume, lambda piece: _of("volume", piece)),
    "mysql": Kind(Stage.DATABASES, restore_database, lambda piece: _of("database", piece)),
    "postgres": Kind(Stage.DATABASES, restore_database, lambda piece: _of("database", piece)),
    "bucket": Kind(Stage.BUCKETS, restore_bucket, lambda piece: _of("bucket", piece)),
    "n8n": Kind(Stage.N8N, restore_n8n, lambda piece: f"n8n from {piece.manifest.file} ({piece.manifest.holds})"),
}
"""By the kind that stands in a backup's manifest."""
