"""A real Prefect server with a password, a real worker, real databases: everything goes through deployments."""
