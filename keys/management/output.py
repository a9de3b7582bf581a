"""The streams of a command: standard output, which must take what it is given, and standard error, which may not."""

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Self

from django.core.management.base import CommandError

CLOSED = "it is closed"
# What a file system answers that cannot bring a file to the disk on demand.
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


class OutputError(CommandError):
    """Standard output cannot be written. `reason` says why."""

    def __init__(self, error: Exception) -> None:
        self.reason = (getattr(error, "strerror", None) if isinstance(error, OSError) else None) or CLOSED
        super().__init__(f"Standard output cannot be written: {self.reason}.")


class Output:
    """Standard output. Raises OutputError for what cannot be written, and escapes what its encoding lacks.

    `stream` is None where the process was started without one.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = _whole(stream)

    def write(self, text: str) -> None:
        try:
            _write(self._stream, text)
        except (OSError, ValueError) as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        try:
            _flush(self._stream)
        except (OSError, ValueError) as error:
            raise OutputError(error) from error

    def deliver(self) -> None:
        """Return when everything written is out: in the hands of the reader, or on the disk. Raises OutputError."""
        self.flush()
        try:
            number = self._stream.fileno()
        except (AttributeError, OSError, ValueError):
            return  # in memory
        try:
            # A full disk far away, or a quota, may be said no sooner.
            if stat.S_ISREG(os.fstat(number).st_mode):
                os.fsync(number)
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise OutputError(error) from error

    def isatty(self) -> bool:
        return _is_terminal(self._stream)


class Notes:
    """Standard error. What cannot be written there is lost: a note changes neither what is done nor the exit status."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(Exception):
            _write(self._stream, text)

    def flush(self) -> None:
        with suppress(Exception):
            _flush(self._stream)

    def isatty(self) -> bool:
        return _is_terminal(self._stream)


class Progress:
    """How far a command has come, on one line of a terminal that is written anew; nothing elsewhere.

    `count` says how many there are, and is asked only if the line is shown.
    """

    WIDTH = 24  # characters of the bar
    EVERY = 0.1  # seconds

    def __init__(self, notes: Any, count: Callable[[], int], what: str, *, is_quiet: bool = False) -> None:
        self._notes, self._what = notes, what
        self._is_shown = notes.isatty() and not is_quiet
        self._total = count() if self._is_shown else 0
        self._done, self._since, self._shown_at = 0, monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_shown and self._done:
            self._show()
            self._notes.write("", style_func=str, ending="\n")

    def add(self, number: int) -> None:
        """Say that so many more are done."""
        self._done += number
        if self._is_shown and monotonic() - self._shown_at >= self.EVERY:
            self._show()

    def _show(self) -> None:
        self._shown_at = monotonic()
        # There may be more by now than were counted.
        total = max(self._total, self._done)
        rate = self._done / max(self._shown_at - self._since, 0.001)
        bar = "#" * (self._done * self.WIDTH // total)
        line = f"\r[{bar:-<{self.WIDTH}}] {self._done} of {total} {self._what}, {rate:.0f}/s "
        self._notes.write(line, style_func=str, ending="")
        self._notes.flush()


def _whole(stream: Any) -> Any:
    """Return the stream, or one that takes all of a text or raises.

    One without a buffer, as under PYTHONUNBUFFERED, drops in silence what a full pipe or the end of a disk leaves over.
    """
    if isinstance(getattr(stream, "buffer", None), io.FileIO):
        with suppress(OSError, ValueError):  # closed, as writing will say
            return open(stream.fileno(), "w", 1, encoding=stream.encoding, errors=stream.errors, closefd=False)
    return stream


def _write(stream: Any, text: str) -> None:
    if stream is None:
        raise ValueError(CLOSED)
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        encoding = getattr(stream, "encoding", None) or error.encoding
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _flush(stream: Any) -> None:
    if hasattr(stream, "flush"):
        stream.flush()


def _is_terminal(stream: Any) -> bool:
    return hasattr(stream, "isatty") and bool(stream.isatty())


def let_go() -> None:
    """Drop what this process's streams cannot write, so that Python does not try again, and complain, when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _flush(stream)
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
