"""n8n: its workflows, credentials and tags, which workflows are active, and the key that opens the credentials."""

from engine.n8n.parts import DUMP_FORMAT

__all__ = ["DUMP_FORMAT"]
