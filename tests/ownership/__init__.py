"""Models that may own keys, of every kind that a project may have."""

# For KEYS["OWNERS"].
LISTED = ["auth.User", *(f"ownership.{name}" for name in ("Company", "Shop", "Till", "Project", "Team", "Building"))]
