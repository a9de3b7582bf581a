"""The data of the usage report: which key was used on which API, from where and when last.

The numbers come from `reports.api_usage`. The URLconf adds the APIs that a variable opens and nobody called.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import environment
from ..audit.reach import Reach, has_dead_clock
from ..audit.reports import ApiUsage, ago
from ..endpoints import endpoints, environment_keyrings
from ..gateway import ForwardAuthView
from ..keyrings import EnvironmentKeyring
from ..models import APIKey, AuditEvent
from ..models.audit_event import GATEWAY, logged_name

Event = AuditEvent.Event

ADDRESSES_SHOWN = 3


@dataclass
class ApiLine:
    """The calls of one API with one key. `switched_off_by` names the variable that disables the key there.

    `endpoint` is its name in the log; empty if that has none. `path` is that of all its calls, empty for a host.
    """

    api: str
    path: str
    endpoint: str = ""
    uses: int = 0
    refusals: int = 0
    last_at: datetime | None = None
    last_used_at: datetime | None = None
    came_from: dict[str, None] = field(default_factory=dict)
    switched_off_by: str = ""

    def add(self, line: ApiUsage) -> None:
        self.uses += line.uses
        self.refusals += line.refusals
        self.last_at = max(line.last_at, self.last_at or line.last_at)
        self.last_used_at = max(filter(None, (line.last_used_at, self.last_used_at)), default=None)
        self.came_from[line.came_from or "-"] = None

    @property
    def addresses(self) -> list[str]:
        """The latest of the addresses that it was called from."""
        return list(self.came_from)[:ADDRESSES_SHOWN]

    @property
    def more_addresses(self) -> int:
        return len(self.came_from) - len(self.addresses)


@dataclass
class KeyUsage:
    """One key, one variable or, without a name, all unknown keys, with the APIs they were used on.

    `verdict` is one word on whether it may be retired, `sentence` the reason.
    """

    name: str
    prefix: str = ""
    key_id: int | None = None
    key: APIKey | None = None
    rows: dict[str, ApiLine] = field(default_factory=dict)
    is_set: bool = False
    is_read: bool = False
    verdict: str = ""
    sentence: str = ""

    @property
    def is_environment(self) -> bool:
        return self.key_id is None and self.name.startswith(environment.PREFIX)


def keys_used(lines: Iterable[ApiUsage]) -> list[KeyUsage]:
    """Return the usage by key, the latest use first."""
    routes = {endpoint.name: endpoint.address for endpoint in reversed(endpoints())}
    found: dict[int | str, KeyUsage] = {}
    for line in lines:
        identity = line.key_name if line.key_id is None else line.key_id
        holder = found.setdefault(identity, KeyUsage(line.key_name, line.key_prefix, line.key_id))
        api = line.endpoint or line.one_path or _("several APIs")
        # One of the paths says little of a host.
        path = "" if line.is_of_other_service else line.one_path
        holder.rows.setdefault(api, ApiLine(api, routes.get(api, path), line.endpoint)).add(line)
    return list(found.values())


def with_keys(found: Iterable[KeyUsage]) -> list[KeyUsage]:
    """Return the same usage, with the keys that still exist."""
    listed = list(found)
    keys = APIKey.objects.in_bulk([holder.key_id for holder in listed if holder.key_id is not None])
    for holder in listed:
        holder.key = keys.get(holder.key_id) if holder.key_id is not None else None
    return listed


def variables(used: Iterable[KeyUsage], only: str | None = None) -> list[KeyUsage]:
    """Return each variable that guards a view or was used, with all the APIs it opens, used or not."""
    found = {holder.name: holder for holder in used if holder.is_environment}
    for endpoint, ring in environment_keyrings():
        if only not in (None, ring.name):
            continue
        name = logged_name(ring.name)
        holder = found.setdefault(name, KeyUsage(name))
        holder.is_read, holder.is_set = True, EnvironmentKeyring(ring.variable).is_configured()
        if ring not in endpoint.keyrings:
            continue  # services ask about its keys there
        # The rows of a gateway name the hosts behind it.
        hosts = [name for name in holder.rows if name.startswith(GATEWAY)] if endpoint.is_of(ForwardAuthView) else []
        for name in hosts or [endpoint.name]:
            row = holder.rows.setdefault(name, ApiLine(name, endpoint.address, name))
            if holder.is_set and not ring.is_configured():
                row.switched_off_by = ring.enabled_by or ""
    return [found[name] for name in sorted(found)]


@dataclass(frozen=True)
class Period:
    """The last `days`, which start at `since`, and how far back the log reaches."""

    days: int
    since: datetime
    reach: Reach

    @property
    def is_known(self) -> bool:
        """Whether the log knows each use in this time."""
        return self.reach.knows(self.since)

    def verdict(self, last_used: datetime | None, made: datetime | None = None) -> tuple[str, str]:
        """Return a word on a key's last use, `used`, `safe` to retire or too `early` to tell, and a sentence."""
        if last_used is not None and last_used >= self.since:
            return "used", ""
        if last_used is None and made is not None and made > self.since and self.reach.knows(made):
            return "early", _("Made %(made)s and not used yet.") % {"made": ago(made)}
        if self.reach.since is None:
            return "early", _("Nothing is on record yet.")
        if not self.is_known and not (made is not None and self.reach.knows(made)):
            text = _("No use on record, but the log begins only %(begins)s.")
            return "early", text % {"begins": ago(self.reach.since)}
        if last_used is not None and has_dead_clock(last_used):
            return "early", _("Used when a clock was wrong.")
        text = ngettext("Not used in the last day.", "Not used in the last %(days)d days.", self.days)
        return "safe", text % {"days": self.days}


def judge_variable(variable: KeyUsage, period: Period) -> None:
    """Set whether a variable may be retired. The index `keys_event_env` finds its last use."""
    uses = AuditEvent.objects.written().latest_of("key_name", variable.name).filter(api_key=None, event=Event.USED)
    last = uses.first()
    variable.verdict, variable.sentence = period.verdict(last.at if last is not None else None)
    if last is not None:
        used = _("Last used %(used)s from %(address)s on %(api)s.") % {
            "used": ago(last.at),
            "address": last.address or _("an unknown address"),
            "api": last.endpoint or last.path,
        }
        variable.sentence = f"{variable.sentence} {used}".strip()


def judged(keys: Iterable[APIKey], period: Period) -> list[KeyUsage]:
    """Return for unused keys whether they may be deactivated."""
    found = []
    for key in keys:
        verdict, sentence = period.verdict(key.last_used, key.created_at)  # type: ignore[attr-defined]
        # There were more requests in these days than are read.
        sentence = sentence or _("Used before the requests that are counted here.")
        key.reach = period.reach  # type: ignore[attr-defined]
        found.append(KeyUsage(key.name, key.prefix, key.pk, key, verdict=verdict, sentence=sentence))
    return found
