"""The file to which the lines of seals are appended, on another machine than the database: its chain is one database's.

A line is written before its seal is committed. So a killed process may leave a line alone, or half a line.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.db import IntegrityError

from ..models import AuditSeal
from . import log_identity, sealing
from .sealing import SealError

Line = Mapping[str, Any]
BEGINNING = b'{"number": '  # of each line


def written(seal: AuditSeal) -> str:
    """Return the line of a seal."""
    return json.dumps(seal.described())


def read(path: Path) -> list[Line]:
    """Return the seals in a file. Raises SealError if there are none, or something else."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SealError(f"{path} cannot be read: {error.strerror}.") from error
    seals = [_seal(line, number, path) for number, line in enumerate(lines, 1) if line.strip()]
    if not seals:
        raise SealError(f"{path} holds no seals.")
    return seals


def _seal(line: str | bytes, number: int, path: Path) -> Line:
    seal = _parsed(line)
    if seal is None:
        raise SealError(f"Line {number} of {path} is not a seal.")
    return seal


def _parsed(line: str | bytes) -> Line | None:
    with suppress(ValueError, RecursionError):
        seal = json.loads(line)
        if isinstance(seal, dict) and isinstance(seal.get("number"), int):
            return seal
    return None


class SealFile:
    """A file that is open to be appended to, by this process alone."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._file = path, descriptor
        self._size = os.fstat(descriptor).st_size

    def append(self, seal: AuditSeal) -> None:
        """Append the line of a seal, and wait for the disk. Raises SealError, and leaves the file as it was."""
        self._add(f"{written(seal)}\n".encode(), f"Seal {seal.number} has no line")

    def _add(self, content: bytes, otherwise: str) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise SealError(f"{otherwise}: {self._path} cannot be written: {error.strerror}.") from error
        self._size = os.fstat(self._file).st_size

    def match(self, *, begin: bool = False) -> int:
        """Bring file and database to the same seal. Return the number of the last lost one, to begin a new chain, or 0.

        A seal of which only the line is left is made again, if its rows still give it; lines that the file lacks are
        appended. Raises SealError if the file's last seal is none of this database's, unless a new chain is to begin,
        if one is to begin without need, and if the database is a copy.
        """
        if log_identity.is_copy():
            raise SealError(
                "This database is a copy of the one whose audit log was sealed. With --moved, once, it goes on from"
                " here: with the same file if it replaces the original, else with one of its own."
            )
        newest = sealing.newest_seal()
        common, ahead = self._last_lines(newest.number if newest else 0)
        if common is not None and not _is_of_this_database(common):
            raise SealError(
                f"Seal {common['number']} in {self._path} is another one in this database, which is a copy, or was"
                " restored and sealed since: it needs a file of its own."
            )
        for line in ahead:
            seal = sealing.made_again(line, newest)
            if seal is None:
                if begin:
                    return int(ahead[-1]["number"])
                raise SealError(
                    f"Seal {line['number']} in {self._path} is not in this database, which is a copy, or was restored"
                    " from an older state. A copy needs a file of its own. After a restore, keys_verify --against names"
                    " what was lost, and --begin begins a new chain."
                )
            with suppress(IntegrityError):  # made by another process meanwhile
                sealing.save(seal)
            newest = seal
        if begin:
            raise SealError(f"{self._path} holds no seal that this database lacks: its chain goes on without --begin.")
        if not ahead:
            for seal in sealing.written_seals(int(common["number"]) + 1 if common else 1):
                self.append(seal)
        return 0

    def _last_lines(self, number: int) -> tuple[Line | None, list[Line]]:
        """Return the last line of the seals up to that number, or None, and all after it in order."""
        lines = self._read().split(b"\n")
        ahead: list[Line] = []
        for place in range(len(lines), 0, -1):
            if not lines[place - 1].strip():
                continue
            line = _seal(lines[place - 1], place, self._path)
            if line["number"] <= number:
                return line, ahead
            ahead.insert(0, line)
        return None, ahead

    def _read(self) -> bytes:
        """Return what is in the file, which afterwards ends with a whole line if its lines are seals."""
        os.lseek(self._file, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._file, 2**20):
            parts.append(part)
        content = b"".join(parts)
        last = content[content.rfind(b"\n") + 1 :]
        if not last:
            return content
        if _parsed(last) is not None:
            self._add(b"\n", "The last line has no end")
        elif last.startswith(BEGINNING[: len(last)]):
            # Somebody was killed while writing it, and so before the commit. Anything else is another file.
            content = content[: -len(last)]
            os.ftruncate(self._file, len(content))
        self._size = os.fstat(self._file).st_size
        return content


def _is_of_this_database(line: Line) -> bool:
    seal = sealing.read_seal(line["number"])
    return seal is not None and seal.described() == line


@contextmanager
def opened(path: Path) -> Iterator[SealFile]:
    """Open a file to append to, which is made if there is none, once no other process has it. Raises SealError."""
    try:
        from fcntl import LOCK_EX, flock
    except ModuleNotFoundError as error:
        raise SealError("This system cannot lock a file: leave --append out, and redirect standard output.") from error
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise SealError(f"{path} cannot be opened: {error.strerror}.") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SealError(f"{path} is no file.")
        flock(descriptor, LOCK_EX)
        yield SealFile(path, descriptor)
    finally:
        os.close(descriptor)
