import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Starts the calling service, a text-to-speech backend that looks users up in the auth service."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8001, help="The port on 127.0.0.1 (default: 8001).")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        # Another service has other settings, and so needs another process: this one becomes it.
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{port}"]
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "example_project.downstream.settings"}
        os.execve(sys.executable, command, environment)  # noqa: S606
