"""Trees of files as a tar that stock ``tar`` reads, with a signed listing of every member beside it.

The tar is in POSIX (pax) format: numeric owners, modes, times to the nanosecond, links, extended
attributes as ``SCHILY.xattr.*``, files with holes in GNU tar's sparse format 1.0 where that is asked for. Member
names have no leading slash. The listing is a companion of the
backup, one JSON object a line in the tar's order; its digest stands in the signed manifest.
"""

from engine.archive.member import Member, read_listing
from engine.archive.verify import DUMP_FORMAT, LISTING, verify
from engine.archive.write import TreeWriter

__all__ = ["DUMP_FORMAT", "LISTING", "Member", "TreeWriter", "read_listing", "verify"]
