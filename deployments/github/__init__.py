"""What a GitHub workflow runs around a deployment. The script stands alone: nothing here is imported by it."""
