"""Checks of keyrings that ask another system: they can work, in the right order, each with a source of its own."""

from itertools import takewhile

from django.core import checks

from ..endpoints import endpoints, legacy_keyrings
from ..keyrings import DatabaseKeyring, LegacyKeyring
from .views import once_for_each_view


@checks.register("keys")
def check_legacy_keyrings_can_work(**kwargs: object) -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"The keyring {ring.name} {mistake}",
            hint='Write source = "tokens.Token", look_up(self, token) with `def`, and adopts = True or False.',
            id="keys.E040",
        )
        for ring in legacy_keyrings()
        for mistake in ring.mistakes
    ]


@checks.register("keys")
def check_ours_is_asked_first(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            f"The keyring {ring.name} is asked before the database: each use of a key that has come asks it once more.",
            hint=f"Write keyrings = (DatabaseKeyring(), {type(ring).__name__}()).",
            obj=endpoint,
            id="keys.W041",
        )
        for endpoint in endpoints()
        for guard in endpoint.searched
        for ring in takewhile(lambda each: not isinstance(each, DatabaseKeyring), guard.keyrings)
        if isinstance(ring, LegacyKeyring) and ring.origin
    )


@checks.register("keys")
def check_sources_are_of_one_keyring(**kwargs: object) -> list[checks.CheckMessage]:
    named: dict[str, list[str]] = {}
    for ring in legacy_keyrings():
        if ring.origin and ring.name not in (names := named.setdefault(ring.origin, [])):
            names.append(ring.name)
    return [
        checks.Warning(
            f"The keyrings {' and '.join(names)} have the same source, {source}.",
            hint="A record of one is taken for that of the other with the same ref, and its keys are refused once that "
            "one has come. Give each system a source of its own.",
            id="keys.W042",
        )
        for source, names in named.items()
        if len(names) > 1
    ]
