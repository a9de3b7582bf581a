from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers
from rest_framework.exceptions import ParseError

MAX_DEPTH = 32


class ShallowJSONParser(parsers.JSONParser):
    """JSON of at most 32 levels; what is deeper is answered 400.

    DRF's parser, like all that walks a value later on, recurses, and Python ends that with an error that nobody
    catches: a thousand opening brackets would be answered 500.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            value = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None
        level: list[Any] = [value]
        for _ in range(MAX_DEPTH):
            level = [
                inner
                for outer in level
                if isinstance(outer, list | dict)
                for inner in (outer.values() if isinstance(outer, dict) else outer)
            ]
        if level:
            raise ParseError("JSON parse error - nested too deeply")
        return value
