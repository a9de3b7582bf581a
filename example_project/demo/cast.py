"""Who plays: the sample users, the keys made for this run, and what is left of it when it is over."""

import secrets
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from example_project.accounts.authentication import ACCESS_TOKEN_COOKIE
from example_project.demo.calls import Caller
from example_project.demo.seed import PEOPLE, Sample
from example_project.jobs.models import Job
from example_project.tracking.models import Click, Link, Record
from keys import actor
from keys.models import APIKey, AuditEvent

ACTOR = "manage.py demo"
# A run is over in seconds. What is older than this belongs to none that is still going on.
LONGER_THAN_A_RUN = timedelta(minutes=10)
LIFE_OF_A_KEY = timedelta(days=30)

NOBODY = Caller("no key")
STRANGER = Caller("unknown key", {"X-API-Key": secrets.token_hex(20)})


class Cast:
    """The callers of one run. `run` names it in request ids and in the data that it leaves."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.run = f"demo-{secrets.token_hex(4)}"
        self.keys: list[APIKey] = []
        # Values of our own, whatever the environment holds under these names.
        self.environment = {
            "INTERNAL_API_KEY": secrets.token_hex(20),
            "WEBHOOK_API_KEY": secrets.token_hex(20),
            "TRACKING_INGEST_API_KEY": secrets.token_hex(20),
            "TRACKING_INGEST_ALLOW_SHARED_KEY": "true",
            # The log is printed as soon as the last request is answered.
            "AUDIT_SINK": "database",
        }
        # By username, as they log in.
        self.jwt: dict[str, str] = {}
        self.tts_key = self.new_key("TTS-Backend")
        self.partner_key = self.new_key("Partner", scopes=["tracking:write"])

    def new_key(self, name: str, **fields: Any) -> APIKey:
        """Make a key; the instance can still tell its secret. One that a killed run leaves behind ends by itself."""
        fields.setdefault("expires_at", timezone.now() + LIFE_OF_A_KEY)
        return self.remember(APIKey.objects.create(name=name, **fields))

    def remember(self, key: APIKey) -> APIKey:
        """Take in a key that a rotation has made."""
        self.keys.append(key)
        return key

    def id_of(self, username: str) -> int:
        """Return the id of a sample user."""
        return self.sample.users[username].pk

    def set_active(self, username: str, is_active: bool) -> None:
        """Let a sample user in, or no longer."""
        user = self.sample.users[username]
        user.is_active = is_active
        user.save(update_fields=["is_active"])

    def with_variable(self, label: str, variable: str, header: str = "X-API-Key") -> Caller:
        """Return a caller who sends the value of an environment variable."""
        return Caller(label, {header: self.environment[variable]})

    def events(self) -> QuerySet[AuditEvent]:
        """Return this run's rows in the audit log, the oldest first."""
        ours = Q(request_id__startswith=f"{self.run}-") | Q(api_key__in=[key.pk for key in self.keys])
        events: QuerySet[AuditEvent] = AuditEvent.objects.filter(ours).order_by("pk")
        return events

    def tidy_up(self) -> None:
        """Leave no key that works, and none of the data that the play has written."""
        for key in self.keys:
            key.deactivate()
        Click.objects.filter(link__slug=self.run).delete()
        Link.objects.filter(slug=self.run).delete()
        for model in (Record, Job):
            model._default_manager.filter(name=self.run).delete()


def with_key(key: APIKey) -> Caller:
    """Return a caller who sends a key made in this run, named as people see it: by name and prefix."""
    return Caller(f"{key.name} {key.prefix}…", {"X-API-Key": str(key.key)})


def with_jwt(cast: Cast, username: str) -> Caller:
    """Return a user who has logged in and sends the JSON Web Token in the cookie."""
    return Caller(f"JWT of {username}", {"Cookie": f"{ACCESS_TOKEN_COOKIE}={cast.jwt[username]}"})


def remove_earlier_keys() -> None:
    """Delete the keys that earlier runs have made, once they work no more; the audit log tells which they are."""
    actors = [ACTOR, *(f"user: {username}" for username in PEOPLE)]
    made_by_us = AuditEvent.objects.filter(event=AuditEvent.Event.CREATED, actor__in=actors, api_key__isnull=False)
    now = timezone.now()
    ended = Q(is_active=False) | Q(expires_at__lt=now)
    old = APIKey.objects.filter(ended, created_at__lt=now - LONGER_THAN_A_RUN)
    with actor.acting_as(ACTOR):
        old.filter(pk__in=made_by_us.values("api_key")).delete()
