"""``python -m deployments.cli``: the same as ``backups``."""

from deployments.cli.main import main

main()
