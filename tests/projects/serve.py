"""`python -m tests.projects.serve <project>`: serves it on a database of its own for as long as its parent lives.

Writes the port to standard output; then runs each line of standard input in the project, and writes what it printed.
"""

import json
import os
import sys
import threading
import traceback
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any


def main(name: str) -> None:
    os.environ |= {"KEYS_WORLD": name, "DJANGO_SETTINGS_MODULE": f"{name}.settings"}
    import django
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application
    from django.test.utils import setup_databases, teardown_databases

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Write nothing: standard error is the test's."""

    django.setup()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        server = ThreadedWSGIServer(("127.0.0.1", 0), Handler)
        server.set_app(get_wsgi_application())
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        print(server.server_port, flush=True)
        answer_lines()
        server.shutdown()
        server.server_close()
    finally:
        teardown_databases(databases, verbosity=0)


def answer_lines() -> None:
    names: dict[str, Any] = {}
    for line in sys.stdin:
        out = StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            try:
                exec(json.loads(line), names)  # noqa: S102  the test's own lines
                failed = False
            except Exception:
                traceback.print_exc()
                failed = True
        print(json.dumps([failed, out.getvalue()]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
