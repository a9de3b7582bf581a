import json
import os
import signal
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.core.management.color import no_style
from django.db import DatabaseError

from example_project.demo.cast import ACTOR, Cast, remove_earlier_keys
from example_project.demo.play import Play
from example_project.demo.printing import Page
from example_project.demo.seed import Sample, admin_password, fill_in
from keys import actor


class Command(BaseCommand):
    help = (
        "Starts the example service, plays its clients against it over HTTP and prints what they sent, what they got "
        "and the audit log they left. Fails if any answer is not the expected one."
    )
    # They would judge the keys in our environment, and the services get keys of their own.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--serve", action="store_true", help="Leave the services running until Ctrl-C.")
        mode.add_argument("--seed", action="store_true", help="Fill in sample data, print ids and log-ins as JSON.")

    def handle(self, *args: Any, serve: bool, seed: bool, **options: Any) -> None:
        if os.environ.get("NO_COLOR"):
            self.style = no_style()
        if seed:
            self.stdout.write(json.dumps(self._filled_in().as_json(admin_password()), indent=2))
            return
        # Set and not left to Python, which keeps ignoring Ctrl-C where a shell has started it in the background.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            self._play(self._filled_in(), serve=serve)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None

    def _play(self, sample: Sample, *, serve: bool) -> None:
        with tempfile.TemporaryDirectory() as folder, actor.acting_as(ACTOR):
            remove_earlier_keys()
            cast = Cast(sample)
            play = Play(cast, Page(self.stdout, self.style), Path(folder))
            try:
                play.perform()
                if serve:
                    play.serve(admin_password())
            finally:
                play.stop()
                cast.tidy_up()

    def _filled_in(self) -> Sample:
        try:
            call_command("migrate", interactive=False, verbosity=0)
            return fill_in()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error
