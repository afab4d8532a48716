"""Prefect tasks: one step each that can be tried again on its own. The work itself is in ``engine``."""
