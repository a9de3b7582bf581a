"""The base of the commands: the output of texts and tables, and errors as one sentence."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, connections, router, transaction

from .. import moments
from ..audit.log_identity import LogIdentityError
from ..audit.partitions import PartitionError
from ..audit.sealing import SealError
from ..audit.triggers import TriggerError
from ..keyrings import KeyStoreError
from ..models import APIKey, RotationError, StaleKeyError
from ..models.fields import stored
from ..models.owners import OwnerUnknownError
from ..redaction import printable
from .output import Notes, Output, OutputError, let_go

Style = Callable[[str], str]

PAGE = 2000  # lines of a table, or rows, that are held at once

# Their texts are sentences for people.
SENTENCES = (
    ImproperlyConfigured, RotationError, StaleKeyError, OwnerUnknownError, LogIdentityError, PartitionError, SealError,
    TriggerError, KeyStoreError,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a table; `style` colours it."""

    cells: Sequence[str | int]
    style: Style = str


def write_table(out: OutputWrapper, headings: Sequence[str], lines: Iterable[Line], heading_style: Style) -> None:
    """Write the lines under their headings, numbers right-aligned. Control characters are escaped.

    They are read and aligned by the page, so that of a long table no more is held; a column may grow from page to page.
    """
    widths, numeric, rest = [0] * len(headings), [False] * len(headings), iter(lines)

    def write(cells: Sequence[str], style: Style) -> None:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(cells, widths, numeric, strict=True)
        )
        text = "  ".join(aligned).rstrip()
        out.write(style(text))

    has_begun = False
    while page := list(islice(rest, PAGE)):
        texts = [[printable(str(cell)) for cell in line.cells] for line in page]
        widths = [max(each) for each in zip(widths, *([len(text) for text in cells] for cells in texts), strict=True)]
        if not has_begun:
            has_begun = True
            widths = [max(width, len(heading)) for width, heading in zip(widths, headings, strict=True)]
            numeric = [all(isinstance(line.cells[column], int) for line in page) for column in range(len(headings))]
            write(headings, heading_style)
        for line, cells in zip(page, texts, strict=True):
            write(cells, line.style)


class Encoder(DjangoJSONEncoder):
    """JSON in which each time has its offset, also that of a project that keeps naive ones."""

    def default(self, value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is None:
            return moments.written(value)
        return super().default(value)


class KeysCommand(BaseCommand):
    """A command that works on keys. Its result goes to standard output, everything else to standard error.

    If standard output does not take the result, the command fails. Whether standard error takes a note does not matter.
    """

    # A failing check must not prevent people from revoking a key, or creating a secret.
    requires_system_checks = []
    # Commands that run others hand this option on, such as django-tenants' `tenant_command`.
    stealth_options = ("skip_checks",)
    # The exit status of a command that could not do its work.
    failure: ClassVar[int] = 1

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        self.output = Output(stdout or sys.stdout)
        super().__init__(self.output, Notes(stderr or sys.stderr), **options)  # type: ignore[arg-type]

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        finally:
            let_go()

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.verbosity = options["verbosity"]
        if options.get("stdout"):
            self.output = options["stdout"] = Output(options["stdout"])
        if options.get("stderr"):
            options["stderr"] = Notes(options["stderr"])
        try:
            return self._execute(*args, **options)
        except ValidationError as error:
            raise self._failed(" ".join(_sentences(error))) from error
        except (*SENTENCES, OutputError) as error:
            raise self._failed(str(error)) from error
        except UnicodeError as error:
            raise self._failed("What was given is not text in UTF-8.") from error
        except Error as error:
            raise self._failed(f"The database answered: {_one_line(error)}") from error

    def _execute(self, *args: Any, **options: Any) -> str | None:
        try:
            result = super().execute(*args, **options)
        except SystemExit:  # with the status that is the answer, if it gets out
            self.output.flush()
            raise
        self.output.flush()
        return result

    def _failed(self, sentence: str) -> CommandError:
        return CommandError(sentence, returncode=self.failure)

    @contextmanager
    def committed_once_written(self, key: APIKey | None = None) -> Iterator[None]:
        """A transaction where keys, or this key, are written. It is committed once its output is out.

        Raises CommandError if standard output does not take it, and then nothing has happened; and if the commit fails
        after that.
        """
        using = router.db_for_write(APIKey, **({} if key is None else {"instance": key}))
        is_out = False
        try:
            with transaction_of_a_writer(using):
                yield
                self.output.deliver()
                is_out = True
        except OutputError as error:
            sentence = f"Nothing was changed, because standard output cannot be written: {error.reason}."
            raise self._failed(sentence) from error
        except Error as error:
            if not is_out:
                raise
            raise self._failed(
                "The database has not confirmed the change, so what was written to standard output is not valid unless"
                f" keys_list shows it: {_one_line(error)}"
            ) from error

    def write_secret(self, key: APIKey) -> None:
        """Write the secret of a new key, and leave its digest in place: others use the key when it is committed."""
        self.stdout.write(key.key)
        key.key = stored(key.key)

    def note(self, text: str) -> None:
        """Write a note for a person, unless `--verbosity` is 0."""
        if self.verbosity > 0:
            # Without the colour of errors, in which Django writes to standard error.
            self.stderr.write(text, style_func=str)

    def write_json(self, rows: Iterable[Any] | Mapping[str, Any]) -> None:
        """Write rows as a JSON array, one on each line, or one as an object; times are ISO 8601."""
        if isinstance(rows, Mapping):
            self.stdout.write(json.dumps(rows, indent=2, cls=Encoder))
            return
        before, encoder = "[", Encoder()
        for row in rows:
            self.stdout.write(before + encoder.encode(row), ending="")
            before = ",\n "
        self.stdout.write("]" if before != "[" else "[]")


@contextmanager
def transaction_of_a_writer(using: str) -> Iterator[None]:
    """A transaction in which keys are read and then written. On SQLite it waits for its turn before it reads.

    There, a transaction that has read fails at once if it writes beside another writer.
    """
    with transaction.atomic(using=using):
        if connections[using].vendor == "sqlite":
            table = connections[using].ops.quote_name(APIKey._meta.db_table)
            with connections[using].cursor() as cursor:
                cursor.execute(f"UPDATE {table} SET id = id WHERE 0")  # noqa: S608
        yield


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _sentences(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return error.messages
    return [f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()]
