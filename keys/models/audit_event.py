"""The audit log's table: one row for each use, each refusal and each life-cycle event of a key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Protocol, Self

from django.db import connections, models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import actor, moments, scopes, tokens
from ..redaction import printable
from . import changes, owners
from .changes import without_key
from .fields import MomentField, SortedJSONField

logger = logging.getLogger("api_keys")

Row = dict[str, Any]  # the values of one row, by column name

LOADED = "loaded"  # the detail of an event whose row came as it is, by `loaddata` or a package that puts rows back

BATCH_SIZE = 500  # events in one statement
_LITERALS: Mapping[Any, str] = {"": "''", None: "NULL"}

OUTCOME = ("event", "reason", "status", "duration_ms")  # added to a use when its response is done


class Holder(Protocol):
    """The holder of a key: what guards and the log need to know of it, wherever the key is stored.

    `name` is shown to people and in the log. `prefix` is the visible start of the key, or empty. `scopes` are what
    the holder may do. `owner_ref` is whose key it is, as APIKey has it, or empty.
    """

    @property
    def name(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def owner_ref(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...
    def has_scope(self, scope: str) -> bool:
        """Tell whether the holder has the scope, by name or by a wildcard. For views, as `request.auth` is a holder."""
        return scopes.grants(self.scopes, scope)


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def written(self) -> Self:
        """Return the same events from the database that they are written to: a decision needs the latest ones."""
        return self.using(router.db_for_write(self.model))

    def died(self) -> Self:
        """Return the uses without an outcome: the worker died in the view, or the view still runs."""
        return self.filter(event=AuditEvent.Event.USED, status=None)

    def of_name(self, name: str) -> Self:
        """Return the events of the keys with this name, of `env:VARIABLE` or of a name as the log has it."""
        logged = logged_name(name)
        # Both: MariaDB finds equal what differs in case or accents alone, and compares a beginning exactly.
        return self.filter(key_name=logged, key_name__startswith=logged)

    def of_owner(self, ref: str) -> Self:
        """Return the events of the keys of the owner with this reference, as the log has it; the owner may be gone."""
        # The first condition is that of the index. The last is for MariaDB, which finds equal what differs in case,
        # accents or blanks at the end alone, and compares an end exactly.
        return self.filter(owner__gt="", owner=ref, owner__endswith=ref)

    def of_endpoint(self, name: str) -> Self:
        """Return the events of one API, by its name in the log: a view's, or `gateway:orders.example`.

        No index serves this: who asks limits the rows that are read.
        """
        logged = printable(name)[: WIDTHS["endpoint"]]
        # Both, as in `of_name`.
        return self.filter(endpoint=logged, endpoint__startswith=logged)

    def latest_of(self, name: str, value: object) -> Self:
        """Return the events whose field `name`, `api_key_id` or `key_name`, has the value, the latest first.

        The query is a range, because only the index on this field and the time returns that in this order. For
        an equality PostgreSQL may use the index on the time alone, and read the whole log of each month without
        a use of the key.
        """
        return self.filter(**{f"{name}__gte": value, f"{name}__lte": value}).order_by(f"-{name}", "-at")

    def steps(self) -> Self:
        """Return the life-cycle events. They are no requests, and so have no method."""
        return self.filter(method="").exclude(event__in=TRAFFIC)


class AuditEventManager(models.Manager.from_queryset(AuditEventQuerySet)):  # type: ignore[misc]
    """Flushes this process's pending writes before the log is read."""

    flush: ClassVar[Callable[..., None]] = staticmethod(lambda: None)  # set by `audit.sinks`

    def get_queryset(self) -> AuditEventQuerySet:
        try:
            self.flush()
        except Exception as error:
            # The writes stay pending. Reading the log must not fail because it cannot be written, whatever a wrapper of
            # the project's or a test that forbids another database raises.
            logger.error("Outcomes wait to be added to the audit log: %s", type(error).__name__)
        return super().get_queryset()  # type: ignore[no-any-return]


class AuditEvent(models.Model):
    """One use of a key, one refusal, or one life-cycle event: a step of a key's life."""

    class Event(models.TextChoices):
        USED = "used", _("used")
        REFUSED = "refused", _("refused")
        CREATED = "created", _("created")
        CHANGED = "changed", _("changed")
        ROTATED = "rotated", _("rotated")
        DEACTIVATED = "deactivated", _("deactivated")
        ACTIVATED = "activated", _("activated")
        DELETED = "deleted", _("deleted")
        PRUNED = "pruned", _("pruned")

    class Reason(models.TextChoices):
        NONE = "", ""
        UNKNOWN = "unknown", _("unknown key")
        MALFORMED = "malformed", _("not a key at all")
        CONFLICT = "conflict", _("two different keys")
        INACTIVE = "inactive", _("inactive")
        EXPIRED = "expired", _("expired")
        ADDRESS = "address", _("address not allowed")
        OWNER = "owner", _("owner gone or not allowed")
        SCOPE = "scope", _("scope missing")
        RATE = "rate", _("over its rate")

    at = MomentField(_("at"))
    event = models.CharField(_("event"), max_length=16, choices=Event)
    reason = models.CharField(_("reason"), max_length=16, choices=Reason, blank=True, default="")
    # Keeps the id of a deleted key, so there is no constraint and no cascade.
    api_key = models.ForeignKey(
        "keys.APIKey", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, blank=True,
        related_name="events", verbose_name=_("API key"),
    )  # fmt: skip
    key_name = models.CharField(_("key name"), max_length=100, blank=True, default="")
    key_prefix = models.CharField(_("key prefix"), max_length=tokens.LONGEST_VISIBLE, blank=True, default="")
    method = models.CharField(_("method"), max_length=16, blank=True, default="")
    path = models.CharField(_("path"), max_length=255, blank=True, default="")
    endpoint = models.CharField(_("endpoint"), max_length=128, blank=True, default="")
    status = models.PositiveSmallIntegerField(_("status"), null=True, blank=True)
    duration_ms = models.PositiveIntegerField(_("duration (ms)"), null=True, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=255, blank=True, default="")
    request_id = models.CharField(_("request id"), max_length=64, blank=True, default="")
    actor = models.CharField(_("actor"), max_length=150, blank=True, default="")
    # Of the key, as `APIKey.owner_ref` has it. It stays when the owner is gone.
    owner = models.CharField(_("owner"), max_length=owners.MAX_LENGTH, blank=True, default="", db_default="")
    count = models.PositiveIntegerField(_("count"), default=1)
    detail = models.CharField(_("detail"), max_length=255, blank=True, default="")
    # Of a step in a key's life: field -> [old value, new value]; None for a request, and for the log's own events.
    changes = SortedJSONField(_("changes"), null=True, blank=True)
    # Identifies a row in a stream, together with its time; None if it was written directly.
    ticket = models.BigIntegerField(null=True, editable=False)

    objects: ClassVar[AuditEventManager] = AuditEventManager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit log")
        ordering = ("-id",)
        indexes = (
            # Last use and uses of one key: APIKey.last_used_at, keys_usage, the retirement report.
            models.Index(fields=["api_key", "at"], name="keys_event_key_at"),
            # Retention (keys_prune) and reports over the last N days (keys_usage).
            models.Index(fields=["at"], name="keys_event_at"),
            # Uses of a key from the environment: keys_usage, the admin's report, the log's search.
            models.Index(fields=["key_name", "at"], name="keys_event_env", condition=models.Q(api_key=None)),
            # Events of the keys of one owner: keys_usage, the admin's filter.
            models.Index(fields=["owner", "at"], name="keys_event_owner", condition=models.Q(owner__gt="")),
            # Life-cycle events of one key, few among its many requests: its admin page, keys_explain.
            models.Index(fields=["api_key", "at"], name="keys_event_step", condition=models.Q(method="")),
        )
        constraints = (
            # A row is written once, however often it is shipped.
            models.UniqueConstraint(
                fields=["at", "ticket"], name="keys_event_ticket", condition=models.Q(ticket__isnull=False)
            ),
        )

    @classmethod
    def record_step(
        cls,
        event: str,
        detail: str = "",
        changes: dict[str, list[Any]] | None = None,
        *,
        using: str,
        key: Any = None,
        count: int = 1,
    ) -> None:
        """Write a life-cycle event of a key, or of the log itself, with the actor, in the transaction of the change.

        `changes` is what `changes.between` returns, and None for the log itself.
        """
        cls.record_steps(event, detail, [(key, changes)], using=using, count=count)

    @classmethod
    def record_steps(
        cls,
        event: str,
        detail: str,
        steps: Iterable[tuple[Any, dict[str, list[Any]] | None]],
        *,
        using: str,
        count: int = 1,
    ) -> None:
        """Write the same event of many keys, each with its changes, in few statements."""
        texts = {"detail": detail, "actor": actor.current()}
        rows = [{"at": timezone.now(), "changes": changes, **_told(key, texts)} for key, changes in steps]
        cls._insert({"event": str(event), "count": count}, rows, using)

    @classmethod
    def _insert(cls, common: Row, rows: Sequence[Row], using: str) -> None:
        """Insert rows that have most columns in common: these are prepared once, and an import writes many rows.

        No instance is made, and no signal sent: the log must not trigger receivers of `post_save`.
        """
        connection = connections[using]
        quote = connection.ops.quote_name
        own = {name for row in rows for name in row}
        same = {**BLANK, "changes": None, "ticket": None, **common}
        fields: list[Any] = [field for field in cls._meta.concrete_fields if not field.primary_key]
        prepared = {field.attname: field.get_db_prep_save(same[field.attname], connection) for field in fields}
        literal = {
            name: _LITERALS[value] for name, value in prepared.items() if name not in own and value in ("", None)
        }
        given = [field for field in fields if field.attname not in literal]
        places = ", ".join(literal.get(field.attname, "%s") for field in fields)
        columns = ", ".join(quote(field.column) for field in fields)
        head = f"INSERT INTO {quote(cls._meta.db_table)} ({columns}) VALUES "  # noqa: S608  names and literals of ours
        with connection.cursor() as cursor:
            for first in range(0, len(rows), BATCH_SIZE):
                batch = rows[first : first + BATCH_SIZE]
                values = [
                    field.get_db_prep_save(row[field.attname], connection)
                    if field.attname in row
                    else prepared[field.attname]
                    for row in batch
                    for field in given
                ]
                cursor.execute(head + ", ".join([f"({places})"] * len(batch)), values)

    def _save_table(
        self,
        raw: bool = False,
        cls: Any = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
    ) -> Any:
        """Let an event of a fixture have its id, which the event of a key in that fixture may just have been given."""
        if raw and self.pk is not None:
            self._make_room(using)
        return super()._save_table(raw, cls, force_insert, force_update, using, update_fields)  # type: ignore[misc]

    _save_table.alters_data = True  # type: ignore[attr-defined]

    def _make_room(self, using: str) -> None:
        rows = type(self)._base_manager.using(using)
        taken = rows.filter(pk=self.pk, detail__startswith=LOADED).first()
        # A fixture in JSON holds milliseconds.
        if taken is not None and abs(moments.instant(taken.at) - moments.instant(self.at)) >= timedelta(milliseconds=1):
            last = rows.order_by("-pk").values_list("pk", flat=True)[0]
            # So far behind that it need not move again for each event that follows.
            rows.filter(pk=self.pk).update(id=max(last + 1, 2 * self.pk))

    @property
    def is_request(self) -> bool:
        """Whether it is a use or a refusal, not a life-cycle event."""
        return self.event in TRAFFIC

    @property
    def change_lines(self) -> list[tuple[str, str, str, str]]:
        """What a step in a key's life changed, for people: name, label, old value and new value of each field."""
        return changes.lines(self._meta.get_field("api_key").related_model, self.changes)  # type: ignore[arg-type]

    @property
    def step(self) -> str:
        """What a life-cycle event did, in words: `scopes: orders:read → *`."""
        lines, note = self.change_lines, self.detail
        match self.event:
            case self.Event.CHANGED if lines:
                # Without the names of the fields, which follow.
                note = note.rpartition(": ")[0]
                words = [f"{label}: {old} → {new}" for _, label, old, new in lines]
            case self.Event.CREATED:
                words = [f"{label}: {new}" for name, label, _, new in lines if name != "name"]
            case self.Event.DELETED:
                words = [f"{label}: {old}" for name, label, old, _ in lines if name != "name"]
            case _:
                words = []
        return "; ".join([*([note] if note else []), *words])

    @property
    def is_from_many_networks(self) -> bool:
        """Whether it counts refusals beyond the bound of a flood, and so names neither an address nor a path."""
        return self.event == AuditEvent.Event.REFUSED and self.detail == MANY_NETWORKS

    @property
    def place(self) -> str:
        """Where the key was presented, for people."""
        return place_of(self.endpoint, self.path)

    @property
    def is_introspection(self) -> bool:
        """Whether a service asked about the key, which somebody had presented to it."""
        return self.endpoint.startswith(INTROSPECTION)

    def __str__(self) -> str:
        at = moments.local(self.at)
        return f"{at:%Y-%m-%d %H:%M:%S} {self.get_event_display()} {self.key_name or self.get_reason_display()}"


# Written with each request. The other events are those of keys and of the log, and are few.
TRAFFIC = (AuditEvent.Event.USED, AuditEvent.Event.REFUSED)
# The reasons for which a use becomes a refusal when its response is done.
DENIALS = (AuditEvent.Reason.SCOPE, AuditEvent.Reason.RATE)
# The reasons for which a stranger is refused, of whom no key is known: such refusals share rows with a count.
STRANGERS = (AuditEvent.Reason.UNKNOWN, AuditEvent.Reason.MALFORMED, AuditEvent.Reason.CONFLICT)
# The columns of a request's row without what identifies it: its id, and its ticket in a stream. It has no `changes`.
EVENT_FIELDS = tuple(
    field for field in AuditEvent._meta.concrete_fields if field.name not in {"id", "changes", "ticket"}
)
WIDTHS: Mapping[str, int] = {field.attname: field.max_length for field in EVENT_FIELDS if field.max_length}
# What a row that counts refusals from many networks leaves blank; its `detail` says what it is.
OF_ONE_REQUEST = ("method", "path", "endpoint", "duration_ms", "address", "user_agent", "request_id", "actor")
MANY_NETWORKS = "from many networks"
# How the endpoint of a row begins that was asked about: what follows is a host, or the service that asked.
GATEWAY, INTROSPECTION = "gateway:", "introspection:"
BLANK: Row = {field.attname: field.get_default() if field.has_default() else None for field in EVENT_FIELDS}


def place_of(endpoint: str, path: str) -> str:
    """Return where a key was presented, for people: the path, at which host of a gateway, or to which service."""
    if endpoint.startswith(GATEWAY):
        return f"{endpoint.removeprefix(GATEWAY)}{path}"
    if endpoint.startswith(INTROSPECTION):
        return _("%(service)s, which asked about it") % {"service": endpoint.removeprefix(INTROSPECTION)}
    return path


def logged_name(name: str) -> str:
    """Return the name of a key as it stands in the log: escaped, and cut to its column."""
    return printable(name)[: WIDTHS["key_name"]]


def _told(key: Any, texts: Mapping[str, str]) -> Row:
    """Return the columns that say whose key it is, and these texts: all without the key, if somebody has pasted it."""
    if key is None:
        return {name: printable(text)[: WIDTHS[name]] for name, text in texts.items()}
    named = {**texts, "key_name": key.name}
    return {**described(key, key.pk), **{name: without_key(text, key)[: WIDTHS[name]] for name, text in named.items()}}


def described(holder: Holder, key_id: int | None) -> Row:
    """Return the columns that say whose key it is. `key_id` is None if it is no APIKey."""
    prefix = printable(holder.prefix)[: WIDTHS["key_prefix"]]
    known: Row = {"api_key_id": key_id, "key_name": logged_name(holder.name), "key_prefix": prefix}
    # A keyring of the project's own may know nothing of owners.
    if owner := getattr(holder, "owner_ref", ""):
        known["owner"] = printable(owner)[: WIDTHS["owner"]]
    return known
