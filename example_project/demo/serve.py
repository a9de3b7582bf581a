"""`python -m example_project.demo.serve [port]`: serves WSGI_APPLICATION on 127.0.0.1 for as long as its parent lives.

Writes the port to standard output as soon as it can be connected to; without an argument, any that is free. Ends when
standard input does, and that happens however the parent ends.
"""

import signal
import sys
import threading

import django
from django.apps import apps
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, get_internal_wsgi_application, run

from example_project.demo.orders import end_with_parent


def main() -> None:
    django.setup()
    application = get_internal_wsgi_application()
    if apps.is_installed("django.contrib.staticfiles"):
        application = StaticFilesHandler(application)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=end_with_parent, daemon=True).start()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    run("127.0.0.1", port, application, on_bind=lambda port: print(port, flush=True), server_cls=ThreadedWSGIServer)


if __name__ == "__main__":
    main()
