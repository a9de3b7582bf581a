"""The matrix of worlds: an ordinary request, the admin and each command, in other people's settings.

`python -m tests.worlds` runs every world, `python -m tests.worlds tenants` one of them; `--database` or `DATABASE_URL`
chooses the database. Each module in `setups/` is a world: its Django settings, and what is special about it.
"""
