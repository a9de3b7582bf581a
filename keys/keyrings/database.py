"""The keys in the table of `APIKey`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..audit import statements
from ..audit.outcomes import RowHandle
from ..models import APIKey, fields
from ..models.audit_event import Holder, Row


@dataclass(frozen=True, eq=False)
class DatabaseKeyring:
    """The keys in the table of `APIKey`."""

    def __eq__(self, other: object) -> bool:
        """Equal guards share their decisions, so what a subclass holds counts too."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The combined statement would bypass a `find` of the project's own.
        first = next(base for base in cls.__mro__ if {"find", "find_and_record"} & vars(base).keys())
        if "find_and_record" not in vars(first):
            cls.find_and_record = None  # type: ignore[assignment]

    def is_configured(self) -> bool:
        return True

    def find(self, token: str) -> APIKey | None:
        return statements.find(fields.digests(token))

    def find_and_record(
        self, token: str, row: Row, may_use: Callable[[Holder], bool]
    ) -> tuple[APIKey | None, RowHandle | None]:
        """Find the key and record its use; return the key, and the handle of the row if one was written.

        The use may be recorded even if `may_use` refuses it: the caller must ask again, and correct the row.
        """
        return statements.find_and_record(fields.digests(token), row, may_use)
