from argparse import ArgumentParser
from typing import Any

import requests
from django.core.management.base import BaseCommand, CommandError

from example_project.downstream import auth_service


class Command(BaseCommand):
    help = "A background job of the calling service: writes down what to speak to some users."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="+", type=int, help="The users' ids in the auth service.")

    def handle(self, *args: Any, ids: list[int], **options: Any) -> None:
        try:
            found = auth_service.greetings_for(ids)
        except requests.RequestException as error:
            raise CommandError(str(error)) from error
        for sentence in found.sentences.values():
            self.stdout.write(sentence)
        for unknown in found.unknown:
            self.stderr.write(f"Nobody has the id {unknown}.")
