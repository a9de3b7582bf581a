"""`python -m tests.projects.lend_database`: makes the database of a project, and drops it when standard input ends.

So it is dropped where the test is killed, too. Writes a line to standard output when the tables are there.
"""

import sys

import django
from django.test.utils import setup_databases, teardown_databases


def main() -> None:
    django.setup()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        teardown_databases(databases, verbosity=0)


if __name__ == "__main__":
    main()
