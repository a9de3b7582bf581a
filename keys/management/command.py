"""The base of the commands: the actor, the output of texts and tables, and errors as one sentence."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.management import get_system_username
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error

from .. import actor, moments
from ..audit.log_identity import LogIdentityError
from ..audit.partitions import PartitionError
from ..audit.sealing import SealError
from ..audit.triggers import TriggerError
from ..models import RotationError, StaleKeyError
from ..redaction import printable

Style = Callable[[str], str]

# Their texts are sentences for people.
SENTENCES = (
    ImproperlyConfigured, RotationError, StaleKeyError, LogIdentityError, PartitionError, SealError, TriggerError,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a table; `style` colours it."""

    cells: Sequence[str | int]
    style: Style = str


def write_table(out: OutputWrapper, headings: Sequence[str], lines: Sequence[Line], heading_style: Style) -> None:
    """Write the lines under their headings, numbers right-aligned. Control characters are escaped."""
    texts = [[printable(str(cell)) for cell in line.cells] for line in lines]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    numeric = [all(isinstance(line.cells[column], int) for line in lines) for column in range(len(headings))]

    def write(cells: Sequence[str], style: Style) -> None:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(cells, widths, numeric, strict=True)
        )
        text = "  ".join(aligned).rstrip()
        out.write(style(text))

    write(headings, heading_style)
    for line, cells in zip(lines, texts, strict=True):
        write(cells, line.style)


class Encoder(DjangoJSONEncoder):
    """JSON in which each time has its offset, also that of a project that keeps naive ones."""

    def default(self, value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is None:
            return moments.written(value)
        return super().default(value)


class KeysCommand(BaseCommand):
    """A command that works on keys. Its result goes to standard output, everything else to standard error."""

    # A failing check must not prevent people from revoking a key, or creating a secret.
    requires_system_checks = []
    # Commands that run others hand this option on, such as django-tenants' `tenant_command`.
    stealth_options = ("skip_checks",)

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.verbosity = options["verbosity"]
        try:
            with actor.acting_as(f"command line: {get_system_username() or 'unknown'}"):
                return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandError(" ".join(_sentences(error))) from error
        except SENTENCES as error:
            raise CommandError(str(error)) from error
        except UnicodeError as error:
            raise CommandError("What was given is not text in UTF-8.") from error
        except Error as error:
            raise CommandError(f"The database answered: {' '.join(str(error).split())}") from error

    def note(self, text: str) -> None:
        """Write a note for a person, unless `--verbosity` is 0."""
        if self.verbosity > 0:
            # Without the colour of errors, in which Django writes to standard error.
            self.stderr.write(text, style_func=str)

    def write_json(self, rows: Sequence[Any] | Mapping[str, Any]) -> None:
        """Write rows as a JSON array, or one as an object; times are ISO 8601."""
        self.stdout.write(json.dumps(rows, indent=2, cls=Encoder))


def _sentences(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return error.messages
    return [f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()]
