"""A list that opens as fast with ten million rows as with none.

It counts nothing, and pages by the index on `at`: each page starts where the last one ended, without an offset. A
filter or search that no index serves reads a limited number of rows, and offers to read further.
"""

from datetime import datetime
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from .. import moments
from ..models import AuditEvent, owners
from .finding import BEFORE
from .log_filters import KeyFilter, WhenFilter, matching
from .owner_filters import EventOwnerFilter, of_owner
from .owner_lookup import OwnerLookup

LOOKED_AT = 100_000  # rows, which PostgreSQL reads in about a tenth of a second

Events = QuerySet[AuditEvent]
Place = tuple[datetime, int]


def older_than(events: Events, place: Place) -> Events:
    """Return the events after that place in the list, which starts with the latest."""
    at, pk = place
    # The second condition implies the first one, but a database finds an index for the first.
    return events.filter(at__lte=at).filter(Q(at__lt=at) | Q(pk__lt=pk))


def written(place: Place) -> str:
    at, pk = place
    return f"{moments.written(at)}_{pk}"


def read(text: str) -> Place | None:
    """Return the place in a URL; None if it is not valid."""
    moment, _, pk = text.partition("_")
    try:
        return moments.kept(datetime.fromisoformat(moment)), int(pk)
    except (ValueError, OverflowError):
        return None


def _filters_with_an_index(alias: str) -> tuple[type[Any], ...]:
    """Return the filters that an index serves. That of owners is a partial one, which MariaDB has not."""
    served = (KeyFilter, WhenFilter)
    return (*served, EventOwnerFilter) if connections[alias].features.supports_partial_indexes else served


class AuditChangeList(ChangeList):
    """The rows of one page, the latest first, and the link to older ones.

    `matching` is everything that the filters select, for the export. `older` is the place at which the next page
    starts, and `looked_until` the time at which the search stopped, if it did before the end.
    """

    matching: Events
    older: str | None = None
    starts_later = False
    looked_until: datetime | None = None

    def get_filters_params(self, params: Any = None) -> Any:
        return {name: value for name, value in super().get_filters_params(params).items() if name != BEFORE}

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        # A changed filter starts at the top.
        return super().get_query_string({BEFORE: None, **(new_params or {})}, remove)

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return ["-at", "-id"]

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Events:
        # A theme's form of the filters repeats the other parameters: a changed filter starts at the top.
        self.starts_later = self.params.pop(BEFORE, None) is not None
        self.matching = super().get_queryset(request, exclude_parameters)
        # The rows that the indexes select; the other filters search these.
        indexed = self.root_queryset.order_by("-at", "-id")
        served = _filters_with_an_index(indexed.db)
        for spec in self.filter_specs:
            if isinstance(spec, served):
                indexed = spec.queryset(request, indexed)
        is_narrowed = bool({*self.get_filters_params()} - {one.parameter_name for one in served})
        if self.query:
            refs: list[str] = []
            if owners.are_on():
                # Of all owners: the log has keys that are gone.
                refs, _ = OwnerLookup(self.model_admin.admin_site, request).refs_for(self.query)
            if refs == [self.query]:
                condition, is_indexed = of_owner(self.query), EventOwnerFilter in served
            else:
                condition, is_indexed = matching(self.query, refs)
            self.matching = self.matching.filter(condition)
            is_narrowed |= not is_indexed
        return self._within_bounds(request, indexed, is_narrowed)

    def _within_bounds(self, request: HttpRequest, indexed: Events, is_narrowed: bool) -> Events:
        events = self.matching
        if place := read(request.GET.get(BEFORE, "")):
            events, indexed = older_than(events, place), older_than(indexed, place)
        if is_narrowed:
            for at, pk in indexed.values_list("at", "pk")[LOOKED_AT : LOOKED_AT + 1]:
                self.looked_until, self.older = at, written((at, pk))
                events = events.filter(at__gte=at).filter(Q(at__gt=at) | Q(pk__gte=pk))
        return events

    def get_results(self, request: HttpRequest) -> None:
        # A join would omit the events of deleted keys, because Django expects a foreign key to have a constraint.
        rows = list(self.queryset.prefetch_related("api_key")[: self.list_per_page + 1])
        self.result_list: Any = rows[: self.list_per_page]
        if len(rows) > self.list_per_page:
            last = self.result_list[-1]
            self.older, self.looked_until = written((last.at, last.pk)), None
        if owners.are_on():
            shown = OwnerLookup(self.model_admin.admin_site, request).shown(event.owner for event in self.result_list)
            for event in self.result_list:
                event.shown_owner = shown.get(event.owner)
        self.result_count = len(self.result_list)
        self.full_result_count = None
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False
        self.paginator: Any = Paginator(self.result_list, self.list_per_page)

    @property
    def older_url(self) -> str:
        return super().get_query_string({BEFORE: self.older})

    @property
    def latest_url(self) -> str:
        return self.get_query_string()
