"""API keys for service-to-service calls, kept in the database: see README.md."""
