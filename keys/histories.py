"""Lets packages that keep a history of models store the request of a key: without a user.

django-simple-history and django-reversion put `request.user` into a column for a user, if it is authenticated. A
service is authenticated and not in the table of users, so Django would refuse it. The column can be empty, as it is for
a change that a command makes.
"""

import sys
from functools import partial
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.signals import class_prepared, pre_init

from .authentication import ServicePrincipal


def watch_models() -> None:
    """Watch the models that hold a history, and those that are made from now on."""
    for model in apps.get_models():
        watch(model)
    class_prepared.connect(watch, dispatch_uid=f"{__name__}.watch")


def watch(sender: type[Model], **kwargs: object) -> None:
    """Leave out the user of a row of this model where it is a service, if the model holds a history."""
    field = user_field_of(sender)
    if field:
        receiver = partial(leave_out_service, field)
        pre_init.connect(receiver, sender=sender, weak=False, dispatch_uid=f"{__name__}.{sender._meta.label}")


def user_field_of(model: type[Model]) -> str:
    """Return which field of a history's row takes `request.user`; empty if the model holds no history."""
    # Only what the project has imported.
    history = sys.modules.get("simple_history.models")
    if history is not None and issubclass(model, history.HistoricalChanges):
        return "history_user"
    return "user" if model._meta.label == "reversion.Revision" else ""


def leave_out_service(field: str, *, kwargs: dict[str, Any], **signal: object) -> None:
    """Change the arguments of a new row before Django looks at them."""
    if isinstance(kwargs.get(field), ServicePrincipal):
        kwargs[field] = None
