"""Cold storage: old archives move there by a rule, and are thawed before they are read."""
