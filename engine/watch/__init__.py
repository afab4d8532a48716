"""Watching a site: is every backup young enough, whole, copied, proven; is there room; what changed since last time.

``look`` asks the vault's places (and PostgreSQL servers for their slots) and gives findings; ``remember`` tells which
of them are new and which are over. Neither needs a Prefect server.
"""
