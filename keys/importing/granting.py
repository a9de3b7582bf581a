"""What imported keys may do: the same for all, by what a field says, or by a file that maps one to the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from ..models.validators import validate_scopes
from ..scopes import is_well_formed
from . import values
from .values import ObstacleError


class ScopeMapError(Exception):
    """A file is no map of scopes; in a sentence."""


@dataclass(frozen=True)
class Grants:
    """Which scopes a key gets. `same` is for all: None means `KEYS["DEFAULT_SCOPES"]`.

    With `by_field`, the value of a field says it; with `mapped`, what stands there for that value, or for the name.
    """

    same: Sequence[str] | None = None
    by_field: bool = False
    mapped: Mapping[str, Sequence[str]] | None = None
    _passed: set[str] = field(default_factory=set)

    @property
    def differ(self) -> bool:
        """Whether keys may get different scopes."""
        return self.by_field or self.mapped is not None

    def of(self, value: Any, name: str, source: str) -> Sequence[str] | None:
        """Return the scopes of a record with this value in the field `source`, or with this name.

        Raises ObstacleError, whose text holds nothing of the value.
        """
        if not self.differ:
            return self.same
        if self.mapped is None:
            found = [*dict.fromkeys(values.words(value, source))]
            if any("*" in scope for scope in found):
                raise ObstacleError(f"{source} holds a wildcard, which only --scope-map or --scope may give")
            self._check(found, f"{source} holds what is no scope", f"{source} holds a scope that is not registered")
            return found
        given = _for_value(self.mapped, value, source) if self.by_field else _for_name(self.mapped, name)
        scopes = [*dict.fromkeys(given)]
        self._check(scopes, "the scope map gives what is no scope", 'the scope map gives one that KEYS["SCOPES"] lacks')
        return scopes

    def _check(self, scopes: Sequence[str], malformed: str, unknown: str) -> None:
        for scope in scopes:
            if scope not in self._passed:
                if not is_well_formed(scope):
                    raise ObstacleError(malformed)
                try:
                    validate_scopes([scope])
                except ValidationError:
                    raise ObstacleError(unknown) from None
                self._passed.add(scope)


def _for_name(mapped: Mapping[str, Sequence[str]], name: str) -> Sequence[str]:
    if name not in mapped:
        raise ObstacleError("the scope map does not hold its name")
    return mapped[name]


def _for_value(mapped: Mapping[str, Sequence[str]], value: Any, source: str) -> Sequence[str]:
    """Return what stands for the value as a whole, or else for each of its words."""
    whole = "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value, default=str)
    if whole in mapped:
        return mapped[whole]
    words = [whole] if isinstance(value, bool | int | float) else values.words(value, source)
    if not words or any(word not in mapped for word in words):
        raise ObstacleError(f"the scope map does not hold what {source} says")
    return [scope for word in words for scope in mapped[word]]


def read_map(path: str) -> Mapping[str, Sequence[str]]:
    """Return the scopes for each value, of a file in JSON. Raises ScopeMapError."""
    try:
        read = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ScopeMapError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ScopeMapError(f"{path} is not JSON.") from None
    is_map = isinstance(read, dict) and all(
        isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes) for scopes in read.values()
    )
    if not is_map:
        raise ScopeMapError(f'{path} is not a map of scopes: write {{"value": ["orders:read"]}}.')
    return {str(value).strip(): scopes for value, scopes in read.items()}
