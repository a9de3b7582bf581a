"""System checks. `manage.py check --tag keys` runs them alone; the manual says what each id means."""

from . import database, deployment, environment, options, sink, transactions, views

__all__ = ["database", "deployment", "environment", "options", "sink", "transactions", "views"]
