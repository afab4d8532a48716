"""Buckets of S3 endpoints: a signed list of every object, and each distinct content once, encrypted."""

from engine.buckets.record import DUMP_FORMAT

__all__ = ["DUMP_FORMAT"]
