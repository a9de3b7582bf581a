"""System checks. `manage.py check --tag keys` runs them alone.

=========  =============================================================================================
keys.E001  `KEYS` is not a dictionary.
keys.E002  `KEYS` holds an unknown option.
keys.E003  `KEYS["SCOPES"]` is not a dictionary of scopes, each with a sentence for people.
keys.E004  `KEYS["DEFAULT_SCOPES"]` is not a list of registered scopes.
keys.E005  `KEYS["PREFIX"]` is not up to 88 printable ASCII characters without blanks and commas.
keys.E006  `KEYS["TRUSTED_PROXIES"]` is not a number of proxies.
keys.E007  An option of `KEYS` that is on or off is neither `True` nor `False`.
keys.E008  An option of `KEYS` that is a length of time is not a `timedelta`, or is negative.
keys.E009  A view asks for a scope that is not registered.
keys.E010  A view asks for a scope that is not well-formed.
keys.E011  A view uses `HasScope` without scopes.
keys.E012  A view's authenticator has no keyrings.
keys.E013  An environment variable holds a key shorter than 32 characters.
keys.E014  An environment variable holds a key that can never match.
keys.E015  The switch of a keyring is an environment variable that is not a boolean.
keys.E016  The keys of an environment variable have a scope that is not registered or not well-formed.
keys.E017  `KEYS["AUDIT_SINK"]` is neither `"database"` nor the address of a Redis stream.
keys.E018  `KEYS["AUDIT_SINK"]` needs the package `redis`.
keys.E019  `KEYS["AUDIT_BACKLOG_LIMIT"]` is not a number of entries.
keys.E020  The audit log goes through a stream, and the database is not PostgreSQL.
keys.W001  Views are guarded by keys, and `APIKeyMiddleware` is missing.
keys.W002  A view decides by itself what guards it, so its keys are not verified ahead of it.
keys.W003  With `ATOMIC_REQUESTS`, a view asks for a key only after another kind of authenticator.
keys.W004  Another middleware opens a transaction around the view.
keys.W005  An environment variable that guards a view is set nowhere.
keys.W006  Two environment variables hold the same key.
keys.W007  Keys may travel without TLS (`check --deploy`).
keys.W008  SQLite begins transactions that fail when two requests write (`check --deploy`).
keys.W009  Keys hold the scope `*` (`check --database`).
keys.W010  A key has a rate that views do not enforce (`check --database`).
keys.W011  The partitions of the audit log are not kept up (`check --database`).
keys.W012  MariaDB keeps the audit log in a character set that lacks characters (`check --database`).
keys.W013  MariaDB does not know the project's time zone (`check --database`).
=========  =============================================================================================
"""

from . import database, deployment, environment, mariadb, options, partitions, sink, transactions, views

__all__ = ["database", "deployment", "environment", "mariadb", "options", "partitions", "sink", "transactions", "views"]
