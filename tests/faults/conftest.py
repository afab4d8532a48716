"""The fault trials run on an installation of their own: they kill what they use."""

from tests.integration.conftest import prefect

__all__ = ["prefect"]
