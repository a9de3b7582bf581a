"""django-auditlog writes down every model, and django-reversion and django-simple-history the keys."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS as ORDINARY
from tests.worlds.settings import MIDDLEWARE as ORDINARY_MIDDLEWARE

PACKAGES = ("auditlog", "reversion", "simple_history")

INSTALLED_APPS = [*ORDINARY, "auditlog", "reversion", "simple_history", "tests.worlds.keys_tracked"]
MIDDLEWARE = [*ORDINARY_MIDDLEWARE, "auditlog.middleware.AuditlogMiddleware"]
AUDITLOG_INCLUDE_ALL_MODELS = True


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "no package writes a secret down", _no_secret_is_written_down


def _no_secret_is_written_down() -> None:
    import re
    from io import StringIO

    import reversion
    from auditlog.models import LogEntry
    from django.contrib.auth.models import User
    from django.core import serializers
    from django.core.management import call_command
    from django.test import Client
    from reversion.models import Version

    from keys.models import APIKey

    history = APIKey.history.model  # type: ignore[attr-defined]
    shell = APIKey.objects.create(name="Shell")
    secrets = [str(shell.key)]
    shell.is_active = False
    shell.save()
    shell.is_active = True
    shell.save()
    with reversion.create_revision():
        secrets.append(str(shell.rotate().key))
    shell.key = "0123456789" * 4
    shell.save()
    secrets.append(str(shell.key))
    shell.key = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
    shell.save()
    secrets.append(str(shell.key))
    kept = history.objects.filter(id=shell.pk).latest("history_id")
    assert (kept.prefix, kept.typed_by_hand) == ("sk_live_4eC39HqL", False)
    secrets += [str(key.key) for key in APIKey.objects.bulk_create([APIKey(name="A"), APIKey(name="B")])]
    shell.delete()
    out = StringIO()
    call_command("keys_create", "Command", stdout=out)
    secrets.append(out.getvalue().strip())
    client = Client()
    client.force_login(User.objects.create_superuser("watched"))
    page = client.post("/admin/keys/apikey/add/", {**_form(client), "name": "Admin"})
    secrets.append(re.findall(r"\b[0-9a-f]{40}\b", page.content.decode())[0])

    rows = {
        "auditlog": serializers.serialize("json", LogEntry.objects.all()),
        "reversion": serializers.serialize("json", Version.objects.all()),
        "simple-history": str(list(history.objects.values())),
    }
    assert APIKey.objects.get(key=secrets[-1]).name == "Admin"
    for package, written in rows.items():
        assert "Shell" in written, package
        assert not [secret for secret in secrets if secret in written], package


def _form(client: object) -> dict[str, str]:
    import re

    text = client.get("/admin/keys/apikey/add/").content.decode()  # type: ignore[attr-defined]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
