"""MySQL and MariaDB as a source: capture and restore of one database at a time.

``server`` holds the source itself and hands out connections and client commands; ``tools`` finds the
client programs, ``preflight`` says beforehand what would go wrong, ``capture`` with ``locking`` and
``counting`` makes a dump whose rows were counted at its very snapshot, ``rows`` counts what is in a dump's
stream, ``schema`` fingerprints definitions and ``accounts`` writes users and grants beside the dump.
"""

from engine.mysql.server import MySQLSource

__all__ = ["MySQLSource"]
