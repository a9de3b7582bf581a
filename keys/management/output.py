"""The streams of a command: standard output, which must take what it is given, and standard error, which may not."""

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from typing import Any

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
