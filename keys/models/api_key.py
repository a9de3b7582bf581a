"""The model of a key, and what can be done with one key."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import moments, scopes, tokens
from ..actor import Service
from ..conf import conf
from ..tokens import Secret
from . import changes, owners
from .audit_event import AuditEvent
from .fields import (
    CreationField,
    KeyField,
    ListField,
    MomentField,
    PrefixField,
    TypedByHandField,
    default_scopes,
    digest,
    told_by,
)
from .querysets import EXPIRES_SOON, APIKeyQuerySet, Rows, unrecorded
from .recorded import RecordedModel, secrets_put_away
from .validators import (
    LONGEST_NAME,
    validate_name,
    validate_networks,
    validate_note,
    validate_rate,
    validate_scopes,
)

Event, Reason = AuditEvent.Event, AuditEvent.Reason

STATES = {
    "active": _("active"),
    "expiring": _("expiring soon"),
    "retiring": _("retiring"),
    "expired": _("expired"),
    "inactive": _("inactive"),
}


class RotationError(Exception):
    """A key that is inactive or expired, or whose owner may have no keys, cannot be rotated."""


def _after(moment: datetime, span: timedelta) -> datetime | None:
    """Return the moment plus the span; None, which means never, if that is beyond the calendar."""
    try:
        return moments.after(moment, span)
    except OverflowError:
        return None


def objection_of(is_active: bool, expires_at: datetime | None) -> str:
    """Return why such a key is refused from any address: a reason of AuditEvent; empty if it is accepted.

    It may be one of ours or of another system. `querysets.accepted_at` applies the same rules to many keys: change both
    together.
    """
    if not is_active:
        return Reason.INACTIVE
    return Reason.EXPIRED if expires_at is not None and moments.has_passed(expires_at) else ""


class APIKey(Service, RecordedModel):
    """A service's key. `key` can be read only from the instance that created it.

    `save()` writes only what this copy changed since it was loaded, so that an old copy does not undo a
    deactivation, a rotation or a narrowing of scopes.
    """

    name = models.CharField(
        _("name"), max_length=LONGEST_NAME, validators=[validate_name],
        help_text=_("The service that will hold the key."),
    )  # fmt: skip
    key = KeyField(_("key"))
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Untick to refuse the key from the next request on.")
    )
    created_at = CreationField(_("created at"), auto_now_add=True)
    prefix = PrefixField(_("prefix"), max_length=tokens.LONGEST_VISIBLE, blank=True, default="", editable=False)
    typed_by_hand = TypedByHandField(_("typed by hand"), default=False, db_default=False, editable=False)
    scopes = ListField(
        _("scopes"), default=default_scopes, blank=True, validators=[validate_scopes],
        help_text=_("What the key may do. A key without scopes opens only what asks for no scope."),
    )  # fmt: skip
    expires_at = MomentField(
        _("expires at"), null=True, blank=True, help_text=_("Refused from this moment on. Empty: never expires.")
    )
    allowed_ips = ListField(
        _("allowed networks"), default=list, blank=True, validators=[validate_networks],
        help_text=_("IPv4 and IPv6 networks the key may be used from. Empty: anywhere."),
    )  # fmt: skip
    rate = models.CharField(
        _("rate"), max_length=20, blank=True, default="", validators=[validate_rate],
        help_text=_("For example 100/min, enforced where APIKeyRateThrottle is. Empty: no limit."),
    )  # fmt: skip
    owner_ref = models.CharField(
        _("owner"), max_length=owners.MAX_LENGTH, blank=True, default="", db_default="",
        validators=[owners.validate_ref],
        help_text=_("Whose key it is, such as auth.user:7. It is refused when its owner is gone or inactive."),
    )  # fmt: skip
    note = models.TextField(
        _("note"), blank=True, default="", db_default="", validators=[validate_note],
        help_text=_("For people: whom to ask, which ticket. Never a key."),
    )  # fmt: skip
    replaced_by = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False,
        related_name="predecessor", verbose_name=_("replaced by"),
    )  # fmt: skip
    # The id of the first key in a chain of rotations, which share it and so the bucket of their rate.
    family = models.BigIntegerField(null=True, editable=False)

    # Set before a key is saved that another system made.
    made_at: datetime | None = None

    objects: ClassVar[models.Manager[APIKey]] = models.Manager.from_queryset(APIKeyQuerySet)()
    # For Django itself, which follows relations, refreshes instances and sets references to NULL with it.
    rows: ClassVar[models.Manager[APIKey]] = models.Manager.from_queryset(Rows)()

    class Meta:
        base_manager_name = "rows"
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ("name", "-created_at")
        indexes = (models.Index(fields=["owner_ref"], name="keys_apikey_owner"),)

    CHECKED: ClassVar[frozenset[str]] = frozenset(
        {"name", "scopes", "expires_at", "allowed_ips", "rate", "owner_ref", "note"}
    )
    # The event's own columns say it, or it says nothing of what a new key may do.
    UNTOLD: ClassVar[frozenset[str]] = frozenset({"key", "prefix", "typed_by_hand", "created_at", "family"})
    # What a successor copies from the key it replaces, and what is its own. Each field is in one of the two.
    COPIED_BY_ROTATION: ClassVar[frozenset[str]] = frozenset(
        {"name", "scopes", "allowed_ips", "rate", "owner_ref", "note"}
    )
    OWN_AFTER_ROTATION: ClassVar[frozenset[str]] = frozenset(
        {"id", "key", "prefix", "typed_by_hand", "is_active", "created_at", "expires_at", "replaced_by", "family"}
    )

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})" if self.prefix else self.name

    def __getstate__(self) -> dict[str, Any]:
        """Leave the secret out of pickles and copies, which hold the digest, and the owner's own row."""
        state = super().__getstate__()
        state.pop("found_owner", None)
        if isinstance(key := state.get("key"), Secret):
            state |= {"key": digest(key), **told_by(key)}
        return state

    @property
    def owner(self) -> models.Model | None:
        """The owner, read once; None if the key has none, or if there is no such owner any more.

        Setting it raises ValidationError for an instance of a model that `KEYS["OWNERS"]` does not name.
        """
        return owners.of(self)

    @owner.setter
    def owner(self, owner: models.Model | None) -> None:
        self.owner_ref = "" if owner is None else owners.ref_of(owner)

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self.__dict__.pop("found_owner", None)

    def validate(self, names: Collection[str] | None = None) -> None:
        """Read and check the values, as the base class does. A new key is looked for in what people read, too."""
        super().validate(names if names is None or "key" not in names else {*names, "name", "note"})

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Check each field, and that nobody has pasted the key itself into what people read."""
        super().clean_fields(exclude)
        for name in {"name", "note"}.difference(exclude or ()):
            if changes.holds_key(getattr(self, name), self):
                message = _("This is the key itself, which nobody may write down here.")
                raise ValidationError({name: ValidationError(message, code="secret")})

    def has_scope(self, scope: str) -> bool:
        """Tell whether the key holds the scope, by name or by a wildcard."""
        return scopes.grants(self.scopes, scope)

    @property
    def actor_name(self) -> str:
        return f"key:{self.name}"

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and moments.has_passed(self.expires_at)

    @property
    def last_used_at(self) -> datetime | None:
        """When the key was last used, from the audit log; None if no use is on record.

        Retention may have taken its uses, or it may be older than the log: `keys.audit.reach` knows.
        """
        used = AuditEvent.objects.written().latest_of("api_key_id", self.pk).filter(event=Event.USED)
        last: datetime | None = used.values_list("at", flat=True).first()
        return last

    @property
    def objection(self) -> str:
        """Why the key is refused from any address: a reason of AuditEvent; empty if it is accepted."""
        return objection_of(self.is_active, self.expires_at)

    @property
    def state(self) -> str:
        """`active`, `expiring` (within 14 days), `retiring` (replaced but still accepted), `expired` or `inactive`.

        A refused key that has not expired is inactive, whatever the reason. `objects.in_state()` applies the
        same rules.
        """
        if self.objection:
            return "expired" if self.is_active and self.has_expired else "inactive"
        if self.replaced_by_id is not None:
            return "retiring"
        soon = self.expires_at is not None and moments.has_passed(self.expires_at - EXPIRES_SOON)
        return "expiring" if soon else "active"

    def rotate(self, grace: timedelta | None = None, *, reason: str = "") -> APIKey:
        """Create a successor and accept this key for `grace` more, but not beyond its own expiry. Return the successor.

        The default grace is `KEYS["ROTATION_GRACE"]`. The successor has the same name, scopes, networks, rate, owner
        and note, and the same lifetime if this key expires. Only the first call returns it with its secret. `reason`
        is why, in words for the log.

        Raises RotationError for a key that is inactive or expired or whose owner may have no keys, ValueError for a
        negative grace, Error if nobody can say what the owner may have.
        """
        grace = conf.ROTATION_GRACE if grace is None else grace
        if grace < timedelta(0):
            raise ValueError("The grace of a rotation cannot be negative.")
        using = self._alias()
        with ExitStack() as until_committed, transaction.atomic(using=using):
            row = type(self)._base_manager.using(using).select_for_update().get(pk=self.pk)
            successor = row.replaced_by or row._make_successor(using, grace, until_committed, reason)
        self.refresh_from_db(using, ["expires_at", "replaced_by", "is_active"])
        return successor

    rotate.alters_data = True  # type: ignore[attr-defined]

    def _make_successor(self, using: str, grace: timedelta, until_committed: ExitStack, reason: str) -> APIKey:
        if self.objection:
            sentence = _("%(key)s is inactive: make a new key instead of rotating it.")
            if self.state == "expired":
                sentence = _("%(key)s is expired: make a new key instead of rotating it.")
            raise RotationError(sentence % {"key": self})
        if self.owner_ref and not owners.accept(self):
            raise RotationError(_("The owner of %(key)s may have no keys: it is not rotated.") % {"key": self})
        now = timezone.now()
        successor = type(self)(
            **{name: getattr(self, name) for name in self.COPIED_BY_ROTATION},
            expires_at=self.expires_at
            and _after(now, moments.instant(self.expires_at) - moments.instant(self.created_at)),
            family=self.family or self.pk,
        )
        until_committed.enter_context(secrets_put_away([successor]))
        # Not validated again: a scope that is no longer registered must not block a rotation.
        successor._insert(using=using)
        ends = [moment for moment in (_after(now, grace), self.expires_at) if moment is not None]
        end = min(ends, key=moments.instant, default=None)
        unrecorded(type(self), using).filter(pk=self.pk).update(replaced_by=successor, expires_at=end)
        until = "accepted for ever"
        if end is not None:
            until = f"accepted until {moments.instant(end):%Y-%m-%d %H:%M:%S %Z}"
        before, after = self.snapshot(), {"replaced_by_id": successor.pk, "expires_at": end}
        changed = changes.between(type(self), before, after, {name for name in after if before[name] != after[name]})
        detail = f"successor {successor.prefix}, {until}"
        self.record(Event.ROTATED, self._with_reason(detail, reason), changed, using=using)
        return successor

    def deactivate(self, reason: str = "") -> None:
        """Refuse the key from the next request on, even if this copy is out of date.

        `reason` is why, in words for the log.
        """
        using = self._alias()
        with transaction.atomic(using=using):
            if unrecorded(type(self), using).filter(pk=self.pk, is_active=True).update(is_active=False):
                detail, changed = self._with_reason("", reason), {"is_active": [True, False]}
                self.record(Event.DEACTIVATED, detail, changed, using=using)
        self.is_active = False
        if self.loaded is not None:
            self.remember({"is_active"})

    deactivate.alters_data = True  # type: ignore[attr-defined]

    def _with_reason(self, detail: str, reason: str) -> str:
        """Return the detail of an event with the reason that was given for it, in which the key itself is masked."""
        said = changes.without_key(reason.strip(), self)
        return "; ".join(filter(None, [detail, said]))
