"""How a page reads the log of keys that may be very busy: so many rows, and no more."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import OuterRef, Q, Subquery

from ..models import APIKey, AuditEvent


class BoundedRows:
    """The rows of some keys within some spans of time: of each key and span no more than so many, the latest.

    `edges` are where the spans meet. `cuts` holds, by key and number of the span, from when on the rows are read
    where there are more of them. `condition` finds all that are read.
    """

    def __init__(self, keys: Collection[int], edges: Sequence[datetime], most: int) -> None:
        self.edges = edges
        self.cuts = dict(self._found(keys, most))
        busy = {key for key, _ in self.cuts}
        self.condition = Q(api_key__in={*keys} - busy, at__gte=edges[0], at__lt=edges[-1])
        for key in sorted(busy):
            for begin, end in self._ranges(key):
                self.condition |= Q(api_key=key, at__gte=begin, at__lt=end)

    def _found(self, keys: Collection[int], most: int) -> Iterator[tuple[tuple[int, int], datetime]]:
        """Yield the cuts, from one query that takes but the index."""
        spans = list(pairwise(self.edges))
        of_key = AuditEvent.objects.filter(api_key=OuterRef("pk")).order_by("-at").values("at")
        cuts = {
            f"cut_{number}": Subquery(of_key.filter(at__gte=begin, at__lt=end)[most : most + 1])
            for number, (begin, end) in enumerate(spans)
        }
        for key, *moments in APIKey.objects.filter(pk__in=keys).order_by().annotate(**cuts).values_list("pk", *cuts):
            for number, at in enumerate(moments):
                if at is not None:
                    yield (key, number), at + timedelta(microseconds=1)

    def _ranges(self, key: int) -> Iterator[tuple[datetime, datetime]]:
        """Yield what is read of a key, spans that are read as a whole joined to what follows them."""
        begin = self.edges[0]
        for number, edge in enumerate(self.edges[:-1]):
            if (cut := self.cuts.get((key, number))) is not None:
                if begin < edge:
                    yield begin, edge
                begin = cut
        yield begin, self.edges[-1]
