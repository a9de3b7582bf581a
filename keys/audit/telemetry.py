"""OpenTelemetry: span attributes of a request, and counters. Loaded if `opentelemetry-api` is installed.

The attributes are `api_key.name`, `api_key.prefix`, `api_key.owner` of a key that has one, and, for a refusal,
`api_key.reason`. Of a key that a service asked about they begin with `api_key.introspected.`, as the span is that of
the service's own request. The counters are `api_key.uses`, `api_key.refusals` and `api_key.changes`, without an address
or an owner, as a label should have few values: beyond `MOST_HOSTS` the hosts of a gateway share one. With a stream, the
gauges `api_key.audit.backlog` and `api_key.audit.lag` give its number of entries, and the age of the oldest in seconds.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.dispatch import receiver
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from .. import signals
from ..conf import conf, is_stream
from ..models.audit_event import GATEWAY

if TYPE_CHECKING:
    from .lag import Lag

MOST_HOSTS = 100  # of a process
OTHER_HOSTS = f"{GATEWAY}*"
_hosts: set[str] = set()

_meter = metrics.get_meter("keys")
_uses = _meter.create_counter("api_key.uses", unit="{use}", description="Requests with a good API key.")
_refusals = _meter.create_counter("api_key.refusals", unit="{refusal}", description="Refused API keys.")
_changes = _meter.create_counter("api_key.changes", unit="{change}", description="Steps in the lives of API keys.")

# The attributes of a span, by the column of the log that they show.
_OF_CALLER = {
    "key_name": "api_key.name", "key_prefix": "api_key.prefix", "owner": "api_key.owner", "reason": "api_key.reason"
}  # fmt: skip
_OF_ANOTHER = {
    "key_name": "api_key.introspected.name", "key_prefix": "api_key.introspected.prefix",
    "owner": "api_key.introspected.owner", "reason": "api_key.introspected.reason",
}  # fmt: skip


@receiver(signals.key_used)
def count_use(*, row: Mapping[str, Any], **kwargs: object) -> None:
    """Count the use of a good key, and add the key's name to the request's span."""
    _uses.add(1, {"api_key.name": row["key_name"], "api_key.endpoint": _label(row["endpoint"], is_new=True)})
    _name_on_span(row)


@receiver(signals.key_refused)
def count_refusal(*, row: Mapping[str, Any], **kwargs: object) -> None:
    """Count a refusal by its reason, and add the reason to the request's span."""
    reason = {"api_key.name": row["key_name"], "api_key.reason": row["reason"]}
    _refusals.add(1, {**reason, "api_key.endpoint": _label(row["endpoint"], is_new=False)})
    _name_on_span(row)


def _label(endpoint: str, *, is_new: bool) -> str:
    """Return the endpoint as a label. Whoever asks a gateway may name any host: only a good key makes it a new one."""
    if not endpoint.startswith(GATEWAY) or endpoint in _hosts:
        return endpoint
    if not is_new or len(_hosts) >= MOST_HOSTS:
        return OTHER_HOSTS
    _hosts.add(endpoint)
    return endpoint


def _name_on_span(row: Mapping[str, Any]) -> None:
    # Only a use that somebody else asked about has an actor.
    names = _OF_ANOTHER if row["actor"] else _OF_CALLER
    known = {name: row[column] for column, name in names.items() if row[column] or column.startswith("key_")}
    trace.get_current_span().set_attributes(known)


@receiver(signals.key_life_cycle)
def count_change(*, event: str, **kwargs: object) -> None:
    """Count a key that was created, changed, rotated, activated, deactivated or deleted."""
    _changes.add(1, {"api_key.event": event})


def observe_backlog(options: CallbackOptions) -> Iterable[Observation]:
    """Return the number of entries in the stream; nothing without a stream, or if Redis is unavailable."""
    return [Observation(lag.waiting) for lag in _lag()]


def observe_lag(options: CallbackOptions) -> Iterable[Observation]:
    """Return the age of the oldest entry in seconds; nothing without a stream, or if Redis is unavailable."""
    return [Observation(lag.oldest_seconds) for lag in _lag()]


def _lag() -> "list[Lag]":
    if not is_stream(conf.AUDIT_SINK):
        return []
    from redis.exceptions import RedisError

    from .lag import measure
    from .stream import stream_at

    with suppress(RedisError):
        return [measure(stream_at(conf.AUDIT_SINK))]
    return []


_meter.create_observable_gauge(
    "api_key.audit.backlog", [observe_backlog], "{entry}", "Entries of the audit log that wait to be shipped."
)
_meter.create_observable_gauge("api_key.audit.lag", [observe_lag], "s", "How long the oldest of them has waited.")
