"""A project like PostHog: digests of personal keys, with their beginnings and scopes, and a permission that looks."""
