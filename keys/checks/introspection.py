"""Checks of the view that services ask about keys: it can work, and not everybody may ask."""

from collections.abc import Iterator, Sequence

from django.core import checks

from ..conf import conf, self_service, unusable
from ..gateway import IntrospectionView
from ..gateway.doors import declared_scopes
from ..scopes import first_missing
from .gateway import scopes_of, views_of
from .views import once_for_each_view


@checks.register("keys")
def check_keys_can_be_looked_for(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Error(
            f"The keys that services ask about cannot be looked for: {mistake}",
            hint='Write keyrings = (DatabaseKeyring(), EnvironmentKeyring("INTERNAL_API_KEY")).',
            obj=endpoint,
            id="keys.E044",
        )
        for endpoint in views_of(IntrospectionView)
        if (mistake := endpoint.view.api_key_asked.mistake or _lack(endpoint.view.api_key_asked.keyrings))
    )


def _lack(keyrings: Sequence[object]) -> str:
    return "" if keyrings else "keyrings is empty."


@checks.register("keys")
def check_not_everybody_gets_the_scope(**kwargs: object) -> list[checks.CheckMessage]:
    if unusable():  # with any wrong option none can be read
        return []
    return once_for_each_view(
        checks.Warning(
            f"{option} lets keys ask this view about others, so that whoever gets one may try which keys are good.",
            hint=f"Remove {', '.join(endpoint.guard_scopes)} and wildcards that include it from there. Give it to the "
            "keys of services that ask.",
            obj=endpoint,
            id="keys.W045",
        )
        for endpoint in views_of(IntrospectionView)
        for option, given in _given_to_many()
        if endpoint.guard_scopes and first_missing(given, endpoint.guard_scopes) is None
    )


@checks.register("keys")
def check_asking_takes_a_scope(**kwargs: object) -> list[checks.CheckMessage]:
    return once_for_each_view(
        checks.Warning(
            "Every key may ask this view about others.",
            hint='Write scopes = ("keys:introspect",), which is what IntrospectionView has.',
            obj=endpoint,
            id="keys.W046",
        )
        for endpoint in views_of(IntrospectionView)
        if declared_scopes(scopes_of(endpoint)) == ()
    )


def _given_to_many() -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the options that give scopes to keys for which no administrator has chosen them, and these scopes."""
    yield 'KEYS["DEFAULT_SCOPES"]', conf.DEFAULT_SCOPES
    # Without a list of its own it is DEFAULT_SCOPES.
    yield 'SCOPES in KEYS["SELF_SERVICE"]', self_service()["SCOPES"] or ()
