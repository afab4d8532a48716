"""PostgreSQL: capture one database (or some of its schemas) and bring it back."""

from engine.postgres.server import PostgresSource

__all__ = ["PostgresSource"]
