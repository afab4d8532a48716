"""Prefect flows, one a file. ``site`` is always their first parameter; blocks are named, never passed."""
