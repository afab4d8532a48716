"""The command line ``backups``: straight on the engine with a site file, no server needed.

Prefect is only imported by ``apply``, ``up`` and ``down``; the engine only once a command runs, so
that ``--help`` answers at once.
"""

from deployments.cli.main import main

__all__ = ["main"]
