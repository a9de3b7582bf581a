"""The Redis that holds a stream: how its address is read, and how it is found again when it is another server.

An address leads to a server (`redis://`, `rediss://`, `unix://`), to the primary that Redis Sentinel names
(`redis+sentinel://`), or to the node of a cluster that has the stream (`redis+cluster://`); the last two begin with
`rediss+` where they use TLS. Whichever it is, the server is looked up when a connection is made. So a failover needs
no more than to drop the connections that lead to a server which is no primary any more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from django.db import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

Result = TypeVar("Result")

# No retries of redis-py's own: they would add load to a slow Redis.
ONCE: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
TIMEOUTS = {"socket_connect_timeout": 1, "socket_timeout": 2}  # seconds; the address may set others
# Of those that are asked where the primary is: one that does not answer is passed over.
GUIDES_TIMEOUTS = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
PORTS = {"sentinel": 26379, "cluster": 6379}
# What an address may set. redis-py has further options, which are objects, or change the form of its answers.
_OPTION = re.compile(
    "db|username|password|client_name|max_connections|health_check_interval|retry_on_timeout"
    "|socket_(?:timeout|connect_timeout|keepalive|read_size)|ssl_.+"
)
_SECONDS = re.compile(r"\d{0,4}\.?\d{1,4}", re.ASCII)
SECONDS_TO_TRY_AGAIN = 0.5  # a request whose first attempt failed within these makes a second one

# What a server answers that may not be the primary any more. The codes are also in the middle of a text: Redis 6 quotes
# the error of a script's command, and a pipeline names the command that failed.
_ELSEWHERE = re.compile(r"(?:^|-|caused error: )(?:READONLY|MOVED|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b")
_UNWRITTEN = re.compile(r"(?:^|-|caused error: )(?:READONLY|MOVED)\b")
# redis-py takes the code off the text of those that it has a class for, which depends on its version.
_CLASSES = {"ReadOnlyError": "READONLY", "MovedError": "MOVED", "MasterDownError": "MASTERDOWN",
            "ClusterDownError": "CLUSTERDOWN"}  # fmt: skip


class AddressError(ValueError):
    """An address leads nowhere, for the reason in this sentence, which shows no part of the address."""


class StreamError(OperationalError):
    """Redis could not be written. One of Django's errors, so that callers handle both sinks alike."""


class NotReplicatedError(RedisError):
    """Fewer replicas than the address asks for have said in time that they have an entry."""


class Servers:
    """The server that holds a stream, whichever that is at the moment.

    `address` is in redis-py's form or one of the forms above, without the stream's own options. `options` of redis-py
    override those of the address. With `replicas`, so many have what `call` wrote when it returns. Raises ValueError or
    TypeError for an invalid address; no server is connected to before the first command.
    """

    def __init__(self, address: str, stream: str, replicas: int, options: Mapping[str, Any]) -> None:
        self._replicas = replicas
        # redis-py's type hints do not fit every version of Redis.
        self.client: Any = _client(address, stream)
        pool = self.client.connection_pool
        pool.connection_kwargs.update(options)
        try:
            # Raises for an option that redis-py does not know, which otherwise the first request would.
            pool.connection_class(**pool.connection_kwargs)
        except RedisError as error:
            raise ValueError("An option has a value that is none.") from error
        self._milliseconds = round((pool.connection_kwargs.get("socket_timeout") or 2) * 500)

    def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, which runs again at once if its server is not the primary any more.

        It may have been carried out twice then, as a connection may be lost after the command. Raises StreamError.
        """
        began = monotonic()
        try:
            return work()
        except RedisError as error:
            self.reconsider(error)
            if not _may_be_tried_again(error) or monotonic() - began > SECONDS_TO_TRY_AGAIN:
                raise StreamError(type(error).__name__) from error
        try:
            return work()
        except RedisError as error:
            self.reconsider(error)
            raise StreamError(type(error).__name__) from error

    def call(self, script: Any, keys: Sequence[str], arguments: Sequence[str | int], *, replicated: bool) -> Any:
        """Run a script that writes, and return its answer, when it is `replicated` or at once. Raises RedisError."""
        if not (replicated and self._replicas):
            return script(keys, arguments)
        # In one round trip; redis-py's own way to call a script in a pipeline takes two.
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.eval(script.script, len(keys), *keys, *arguments)
            pipeline.wait(self._replicas, self._milliseconds)
            answer, copies = pipeline.execute()
        if copies < self._replicas:
            raise NotReplicatedError
        return answer

    def reconsider(self, error: RedisError) -> None:
        """Drop the idle connections if, by this error, another server may be the primary now."""
        if isinstance(error, LostConnection | TimedOut | NotReplicatedError) or _ELSEWHERE.search(_said(error)):
            # Those in use are dropped by whoever uses them, for the same reason.
            self.client.connection_pool.disconnect(inuse_connections=False)


def _may_be_tried_again(error: RedisError) -> bool:
    """Tell whether another attempt may reach another server, or the same one that was restarted."""
    if isinstance(error, BusyLoadingError | AuthenticationError | MasterNotFoundError):
        return False
    return isinstance(error, LostConnection) or bool(_UNWRITTEN.search(_said(error)))


def _said(error: RedisError) -> str:
    """Return what Redis answered, its code included."""
    if not isinstance(error, ResponseError):
        return ""
    return f"{_CLASSES.get(type(error).__name__, '')} {error}".lstrip()


def _client(address: str, stream: str) -> Any:
    scheme, _, rest = address.partition("://")
    transport, _, kind = scheme.partition("+")
    authority, _, query = rest.partition("?")
    if "#" in authority:  # redis-py would leave out what follows
        raise AddressError("A # in the address of a Redis stream is written as %23.")
    authority, _, path = authority.partition("/")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    _look_at(parameters)
    if kind not in PORTS or transport not in ("redis", "rediss"):
        if transport != "unix" and not re.fullmatch(r"\d*/?", path, re.ASCII):  # redis-py would take database 0
            raise AddressError("The database in the address of a Redis stream is no number.")
        return Redis.from_url(address, **ONCE, **TIMEOUTS)
    login, at, hosts = authority.rpartition("@")
    nodes = [_host_and_port(each, PORTS[kind]) for each in hosts.split(",")]
    own = {name: parameters.pop(name) for name in [*parameters] if name.startswith("sentinel_")}
    known = {**TIMEOUTS, **_parsed(f"{transport}://{login}{at}localhost", parameters), **ONCE}
    if kind == "sentinel":
        service, database = _service_and_database(path)
        known["db"] = int(database or known.get("db", 0))
        tls = {name: value for name, value in known.items() if name.startswith("ssl")}
        given = _parsed(f"{transport}://localhost", {name.removeprefix("sentinel_"): own[name] for name in own})
        guides: Sentinel = Sentinels(nodes, sentinel_kwargs={**ONCE, **GUIDES_TIMEOUTS, **tls, **given})  # type: ignore[no-untyped-call]
    else:
        if path not in ("", "0") or known.pop("db", 0):
            raise AddressError("A Redis in cluster mode has no database but 0: write none.")
        if own:
            raise AddressError("An address of a Redis in cluster mode has no options for sentinels.")
        service, guides = stream, Cluster(nodes, sentinel_kwargs={**known, **GUIDES_TIMEOUTS})
    return Redis(connection_pool=SentinelConnectionPool(service, guides, **known))  # type: ignore[no-untyped-call]


def _look_at(parameters: Mapping[str, str]) -> None:
    """Raise ValueError for an option that an address cannot have."""
    for name, text in parameters.items():
        option = name.removeprefix("sentinel_")
        if not _OPTION.fullmatch(option):
            raise ValueError("An option is none that text can set.")
        if option in TIMEOUTS and not (_SECONDS.fullmatch(text) and float(text)):
            raise ValueError("A time-out is no number of seconds.")


def _service_and_database(path: str) -> tuple[str, str]:
    service, _, database = path.partition("/")
    if not service:
        raise AddressError("An address of Redis Sentinel names the service: redis+sentinel://host:26379/service.")
    if database and not (database.isascii() and database.isdecimal()):
        raise AddressError("The database in an address of Redis Sentinel is no number.")
    return unquote(service), database


def _host_and_port(text: str, usual_port: int) -> tuple[str, int]:
    # An IPv6 address is in brackets.
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", text, re.ASCII)
    port = int(found[3] or usual_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise AddressError("Sentinels and nodes of a cluster are written as host:port, with commas between them.")
    return found[1] or found[2], port


def _parsed(server: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return what redis-py makes of the options in an address, as its classes of connections take them."""
    parsed: dict[str, Any] = dict(parse_url(f"{server}?{urlencode(parameters)}"))  # type: ignore[no-untyped-call]
    has_tls = parsed.pop("connection_class", None) is not None
    del parsed["host"]
    return {**parsed, "ssl": True} if has_tls else parsed


class Sentinels(Sentinel):
    """redis-py's, whose errors show the options of its connections."""

    def discover_master(self, service_name: str) -> Any:
        """Return the host and port of the primary of the service. Raises MasterNotFoundError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            raise MasterNotFoundError("No sentinel names a primary of the service.") from None


class Cluster(Sentinel):
    """Says which node of a cluster has a key, where redis-py asks sentinels for the primary of a service."""

    def __init__(self, nodes: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(nodes, **options)  # type: ignore[no-untyped-call]
        self.sentinels: list[Any]
        self._named = [*self.sentinels]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the host and port of the primary that has the key of that name. Raises MasterNotFoundError."""
        slot = key_slot(service_name.encode())
        for node in self.sentinels:
            try:
                if node.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    continue  # it would refuse the key, and its view may be an old one
                ranges = node.execute_command("CLUSTER SLOTS")
            except RedisError:
                continue
            asked = _options(node)["host"]
            self._learn(node, {_address(each, asked) for _, _, *nodes in ranges for each in nodes})
            for first, last, primary, *_ in ranges:
                if first <= slot <= last:
                    return _address(primary, asked)
        raise MasterNotFoundError("No node of the cluster knows where the stream is.")

    def _learn(self, answering: Any, members: set[tuple[str, int]]) -> None:
        """Remember who answered, to ask it first, and members that the address does not name: those named may die."""
        known = {(_options(node)["host"], _options(node)["port"]): node for node in self.sentinels}
        others = [known.get(member) or Redis(*member, **self.sentinel_kwargs) for member in sorted(members)]
        self.sentinels = [*dict.fromkeys([answering, *self._named, *others])]


def _options(node: Any) -> dict[str, Any]:
    options: dict[str, Any] = node.connection_pool.connection_kwargs
    return options


def _address(node: Sequence[Any], asked: str) -> tuple[str, int]:
    """Return a node's host and port; one that does not know its own host has that by which it was asked."""
    return (node[0].decode() if node[0] else asked), int(node[1])
