"""The WSGI application: `gunicorn example_project.downstream.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.downstream.settings")

application = get_wsgi_application()
