"""The app's settings: `settings.KEYS`, read on first use, and again when a test changes them.

A value that cannot be used is refused there, and not only by `check`, which says more of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from . import scopes, tokens

DATABASE = "database"  # the sink that is the table itself
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
MAX_PREFIX_LENGTH = tokens.MAX_PRESENTED_LENGTH - tokens.LENGTH


@dataclass(frozen=True)
class Options:
    """Every option of the app, with its default."""

    SCOPES: Mapping[str, str] = field(default_factory=dict)
    DEFAULT_SCOPES: Sequence[str] = field(default_factory=list)
    PREFIX: str = ""
    TRUSTED_PROXIES: int = 0
    AUDIT_FAIL_OPEN: bool = False
    RATE_FAIL_OPEN: bool = False
    ROTATION_GRACE: timedelta = timedelta(days=7)
    OUTCOME_DELAY: timedelta = timedelta(milliseconds=50)
    SEAL_AFTER: timedelta = timedelta(hours=1)
    AUDIT_SINK: str = DATABASE
    AUDIT_BACKLOG_LIMIT: int = 1_000_000
    OWNERS: Sequence[str] = field(default_factory=list)
    OWNER_IS_ALLOWED: str = ""
    SELF_SERVICE: Mapping[str, Any] = field(default_factory=dict)
    REFUSAL_RESPONSE: str = ""


DEFAULTS: dict[str, Any] = {option.name: getattr(Options(), option.name) for option in fields(Options)}


class Mistake(NamedTuple):
    """What is wrong with an option, or with KEYS itself, in sentences that show no value that may be secret."""

    option: str
    message: str
    hint: str


class _Settings:
    """Reads `settings.KEYS` on first access, and then is as fast as any attribute.

    Raises ImproperlyConfigured if an option has a value that cannot be used.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(name)
        # The values are in no variable of this frame, which an error report would show.
        if wrong := unusable():
            raise ImproperlyConfigured(" ".join(mistake.message for mistake in wrong))
        self.__dict__.update({option: value for option, value in configured().items() if option in DEFAULTS})
        return self.__dict__[name]


conf = cast(Options, _Settings())


def configured() -> dict[Any, Any]:
    """Return every option, as set or by default; only the defaults if KEYS is no dictionary."""
    held = getattr(settings, "KEYS", {})
    return {**DEFAULTS, **(held if isinstance(held, Mapping) else {})}


def unusable() -> list[Mistake]:
    """Return what is wrong with the types and the forms of the options' values."""
    if not isinstance(getattr(settings, "KEYS", {}), Mapping):
        return [Mistake("KEYS", "KEYS is not a dictionary.", 'Write KEYS = {"SCOPES": {...}, ...}.')]
    held = configured()
    return [mistake for name in DEFAULTS for mistake in _rule_for(name)(name, held[name])]


def unknown() -> list[Mistake]:
    """Return what KEYS holds that is no option."""
    return [
        Mistake(str(name), f"KEYS has no option {name!r}.", nearest(str(name).upper(), list(DEFAULTS)))
        for name in configured()
        if name not in DEFAULTS
    ]


def nearest(name: str, known: list[str]) -> str:
    """Return a hint with the most similar known name, or with all of them."""
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."


def sentence_of(scope: str) -> str:
    """Return what a scope lets a key do, for people; empty if it is not registered and says nothing by itself."""
    if scope in conf.SCOPES:
        return str(conf.SCOPES[scope])
    if scope == scopes.EVERYTHING:
        return _("Everything.")
    resource, _colon, action = scope.partition(":")
    if action == scopes.EVERYTHING:
        return _("Everything that can be done with %(resource)s.") % {"resource": resource}
    return ""


def is_scope(value: object) -> TypeGuard[str]:
    """Tell whether a value of any type is a well-formed scope."""
    return isinstance(value, str) and scopes.is_well_formed(value)


def is_stream(address: object) -> TypeGuard[str]:
    """Tell whether the value starts like the address of a Redis stream."""
    return isinstance(address, str) and address.partition("://")[0] in SCHEMES


def _rule_for(name: str) -> Callable[[str, Any], Iterator[Mistake]]:
    by_type: dict[type, Callable[[str, Any], Iterator[Mistake]]] = {bool: _a_switch, timedelta: _a_length_of_time}
    return _RULES.get(name) or by_type[type(DEFAULTS[name])]


def _a_registry(name: str, value: Any) -> Iterator[Mistake]:
    hint = 'Write "SCOPES": {"users:read": "Read the details of users."}.'
    if not isinstance(value, Mapping):
        yield Mistake(name, 'KEYS["SCOPES"] is not a dictionary.', hint)
        return
    wrong = [f"{scope!r} is not a scope" for scope in value if not is_scope(scope)]
    wrong += [f"{scope!r} has no sentence" for scope, text in value.items() if not isinstance(text, str | Promise)]
    for what in wrong:
        yield Mistake(name, f'{what} in KEYS["SCOPES"].', hint)


def _a_list_of_scopes(name: str, value: Any) -> Iterator[Mistake]:
    if not isinstance(value, list | tuple):
        yield Mistake(name, f'KEYS["{name}"] is not a list.', f'Write "{name}": ["users:read"].')
        return
    for scope in value:
        if not is_scope(scope):
            hint = "Write resource:action, resource:* or *."
            yield Mistake(name, f'{scope!r} in KEYS["{name}"] is not a scope.', hint)


def _a_prefix(name: str, value: Any) -> Iterator[Mistake]:
    # It may end in hexadecimal digits: exactly 40 of them follow it. A comma joins a header that was sent twice, and a
    # blank ends the keyword in `Authorization`.
    may_begin_a_key = isinstance(value, str) and (
        value == "" or (tokens.is_presentable(value) and len(value) <= MAX_PREFIX_LENGTH and not {" ", ","} & {*value})
    )
    if not may_begin_a_key:
        what = f"a text of up to {MAX_PREFIX_LENGTH} printable ASCII characters without blanks and commas"
        hint = 'Write something that a secret scanner can find, such as "auth_live_".'
        yield Mistake(name, f'KEYS["PREFIX"] is not {what}.', hint)


def _a_number_of_proxies(name: str, value: Any) -> Iterator[Mistake]:
    if type(value) is not int or value < 0:
        hint = "Write how many proxies of yours a request passes, 0 for none. Each adds an entry to X-Forwarded-For."
        yield Mistake(name, 'KEYS["TRUSTED_PROXIES"] is not a number, 0 or more.', hint)


def _a_switch(name: str, value: Any) -> Iterator[Mistake]:
    if not isinstance(value, bool):
        yield Mistake(name, f'KEYS["{name}"] is neither True nor False.', f"The default is {DEFAULTS[name]}.")


def _a_length_of_time(name: str, value: Any) -> Iterator[Mistake]:
    if not isinstance(value, timedelta) or value < timedelta(0):
        hint = f"The default is {DEFAULTS[name]!r}."
        yield Mistake(name, f'KEYS["{name}"] is not a timedelta of 0 or more.', hint)


NO_SINK = Mistake(
    # Without the address, which may hold a password.
    "AUDIT_SINK",
    'KEYS["AUDIT_SINK"] is neither "database" nor the address of a Redis stream.',
    'Write "redis://host:6379/0", "redis+sentinel://host:26379,other:26379/service/0" or'
    ' "redis+cluster://host:6379,other:6379", with "?stream=keys:audit" to name the stream, and options of redis-py.',
)


def _a_sink(name: str, value: Any) -> Iterator[Mistake]:
    if value != DATABASE and not is_stream(value):
        yield NO_SINK


def _a_number_of_entries(name: str, value: Any) -> Iterator[Mistake]:
    if type(value) is not int or value <= 0:
        hint = "Write how many entries may wait in the stream before uses are refused."
        yield Mistake(name, 'KEYS["AUDIT_BACKLOG_LIMIT"] is not a number of entries, 1 or more.', hint)


def _a_list_of_models(name: str, value: Any) -> Iterator[Mistake]:
    hint = 'Write "OWNERS": ["auth.User"].'
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        yield Mistake(name, 'KEYS["OWNERS"] is not a list of models.', hint)
        return
    for one in value:
        if one.count(".") != 1:
            what = "which is not the label of an app, a point and the name of a model."
            yield Mistake(name, f'KEYS["OWNERS"] names {one!r}, {what}', hint)


def _a_function(name: str, value: Any) -> Iterator[Mistake]:
    if not isinstance(value, str) or (value and not is_dotted(value)):
        yield Mistake(
            name, f'KEYS["{name}"] is not the dotted path of a function.', f'Write "{name}": "app.rules.name".'
        )


def is_dotted(value: object) -> TypeGuard[str]:
    """Tell whether the value is the dotted path of something in a module."""
    return isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split("."))


SELF_SERVICE: dict[str, Any] = {
    "SCOPES": None,  # DEFAULT_SCOPES
    "MOST_KEYS": 20,
    "LONGEST_LIFE": timedelta(days=365),
    "OWNERS_OF": "",
}


def self_service() -> dict[str, Any]:
    """Return the options of self-service, as set or by default."""
    return {**SELF_SERVICE, **conf.SELF_SERVICE}


def offered_scopes() -> list[str]:
    """Return the scopes that users may give to keys of their own."""
    given: Sequence[str] | None = self_service()["SCOPES"]
    named = conf.DEFAULT_SCOPES if given is None else given
    return [scope for scope in dict.fromkeys(named) if scope != scopes.EVERYTHING]


def _rules_of_self_service(name: str, value: Any) -> Iterator[Mistake]:
    if not isinstance(value, Mapping):
        yield Mistake(name, 'KEYS["SELF_SERVICE"] is not a dictionary.', 'Write "SELF_SERVICE": {"MOST_KEYS": 20}.')
        return
    for option in value:
        if option not in SELF_SERVICE:
            message = f'KEYS["SELF_SERVICE"] has no option {option!r}.'
            yield Mistake(name, message, nearest(str(option).upper(), list(SELF_SERVICE)))
    held = {**SELF_SERVICE, **value}
    for option, look in _RULES_OF_SELF_SERVICE.items():
        for message, hint in look(held[option]):
            yield Mistake(name, f'{option} in KEYS["SELF_SERVICE"] {message}', hint)


def _scopes_of_users(given: Any) -> Iterator[tuple[str, str]]:
    if given is None:
        return
    if not isinstance(given, list | tuple) or not all(map(is_scope, given)):
        yield "is not a list of scopes.", 'Write "SCOPES": ["users:read"].'
    elif scopes.EVERYTHING in given:
        yield "holds *, which users never give.", "Name the scopes that they may give."


def _most_keys(most: Any) -> Iterator[tuple[str, str]]:
    if type(most) is not int or most < 1:
        yield "is not a number, 1 or more.", "The default is 20."


def _longest_life(longest: Any) -> Iterator[tuple[str, str]]:
    if longest is not None and (not isinstance(longest, timedelta) or longest <= timedelta(0)):
        yield "is not a timedelta above 0, nor None.", "The default is 365 days."


def _owners_of(path: Any) -> Iterator[tuple[str, str]]:
    if path != "" and not is_dotted(path):
        yield "is not the dotted path of a function.", 'Write "OWNERS_OF": "app.rules.owners_of".'


_RULES_OF_SELF_SERVICE: dict[str, Callable[[Any], Iterator[tuple[str, str]]]] = {
    "SCOPES": _scopes_of_users,
    "MOST_KEYS": _most_keys,
    "LONGEST_LIFE": _longest_life,
    "OWNERS_OF": _owners_of,
}


_RULES: dict[str, Callable[[str, Any], Iterator[Mistake]]] = {
    "SCOPES": _a_registry,
    "DEFAULT_SCOPES": _a_list_of_scopes,
    "PREFIX": _a_prefix,
    "TRUSTED_PROXIES": _a_number_of_proxies,
    "AUDIT_SINK": _a_sink,
    "AUDIT_BACKLOG_LIMIT": _a_number_of_entries,
    "OWNERS": _a_list_of_models,
    "OWNER_IS_ALLOWED": _a_function,
    "REFUSAL_RESPONSE": _a_function,
    "SELF_SERVICE": _rules_of_self_service,
}


def environment_folder() -> str:
    """Return the folder of the `.env` file: the project's `BASE_DIR`, else the working directory."""
    return str(getattr(settings, "BASE_DIR", None) or Path.cwd())


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "KEYS":
        vars(conf).clear()


setting_changed.connect(_forget)
