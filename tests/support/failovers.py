"""Redis servers that take each other's place: a pair behind one address, Redis Sentinel, and a cluster."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from keys.audit.stream import Stream
from tests.cluster.processes import free_port
from tests.support.processes import SECONDS_TO_WAIT, eventually
from tests.support.redis_servers import RedisServer, program_or_skip, redis_server

SECRET, SENTINELS_SECRET = "s3cret-of-redis", "s3cret-of-sentinels"


class Pair:
    """A primary, its replica, and an address that leads to the primary, as a name or a virtual address does.

    The address is a link to a socket: whoever connects anew follows it, and whoever is connected stays.
    """

    def __init__(self, folder: Path, primary: RedisServer, replica: RedisServer) -> None:
        self.primary, self.replica = primary, replica
        self.socket = folder / "redis.sock"
        self.address = f"unix://{self.socket}?stream=log"
        self.lead_to(primary)

    @property
    def stream(self) -> Stream:
        return Stream(self.address)

    def lead_to(self, server: RedisServer) -> None:
        link = self.socket.with_suffix(".new")
        link.symlink_to(server.socket)
        link.replace(self.socket)

    def demote(self) -> None:
        """Make each what the other was, and keep every connection. The address still leads to what it led to."""
        assert eventually(self._has_all)
        self.replica.client.replicaof("NO", "ONE")
        self.primary.client.replicaof("127.0.0.1", port_of(self.replica))
        self.primary, self.replica = self.replica, self.primary
        assert eventually(lambda: self.replica.client.info("replication")["master_link_status"] == "up")

    def _has_all(self) -> bool:
        known, written = (each.client.info("replication") for each in (self.replica, self.primary))
        return bool(known["slave_repl_offset"] >= written["master_repl_offset"])

    def fail_over(self) -> None:
        self.demote()
        self.lead_to(self.primary)


def port_of(server: RedisServer) -> int:
    return int(server.client.config_get("port")["port"])


@contextmanager
def redis_pair(*options: str) -> Iterator[Pair]:
    """Run a primary and its replica until the end of the block."""
    with redis_server("--port", str(free_port()), *options) as primary:
        following = ("--port", str(free_port()), "--replicaof", f"127.0.0.1 {port_of(primary)}")
        primary.client.config_set("repl-diskless-sync-delay", 0)
        with redis_server(*following, *options) as replica, tempfile.TemporaryDirectory() as folder:
            assert eventually(lambda: has_replicas(primary.client, 1))
            assert eventually(lambda: _acknowledges(primary.client))
            yield Pair(Path(folder), primary, replica)


def _acknowledges(primary: Any) -> bool:
    """Tell whether a replica says in time that it has what was written: one that has just come may still be loading."""
    with primary.pipeline(transaction=False) as pipeline:
        pipeline.set("written", 1)
        pipeline.delete("written")
        pipeline.wait(1, 1000)
        return bool(pipeline.execute()[-1])


def has_replicas(client: Any, number: int) -> bool:
    known = client.info("replication")
    return [known.get(f"slave{each}", {}).get("state") for each in range(number)] == ["online"] * number


SENTINEL = """
port {port}
dir {folder}
requirepass {own_secret}
sentinel monitor service 127.0.0.1 {primary} 2
sentinel auth-pass service {secret}
sentinel down-after-milliseconds service 500
sentinel failover-timeout service 2000
"""


class Sentinels:
    """A primary and its replica with a password, and three sentinels with another that watch them."""

    def __init__(self, servers: list[RedisServer], ports: list[int]) -> None:
        self.servers, self._ports = servers, ports
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.address = f"redis+sentinel://:{SECRET}@{hosts}/service/3?stream=log&sentinel_password={SENTINELS_SECRET}"

    @property
    def client(self) -> Any:
        """A client of the first sentinel."""
        return redis.Redis(port=self._ports[0], password=SENTINELS_SECRET)

    def primary(self) -> RedisServer:
        """Return the server that the first sentinel takes for the primary."""
        _, port = self.client.sentinel_get_master_addr_by_name("service")
        return next(each for each in self.servers if port_of(each) == port)

    def agree(self) -> bool:
        known = self.client.sentinel_master("service")
        return bool(known["num-other-sentinels"] == 2 and known["num-slaves"] == 1)


@contextmanager
def sentinels() -> Iterator[Sentinels]:
    """Run Redis Sentinel until the end of the block."""
    program = program_or_skip("redis-sentinel")
    secrets = ("--requirepass", SECRET, "--masterauth", SECRET, "--repl-diskless-sync-delay", "0")
    with ExitStack() as end:
        primary = end.enter_context(redis_server("--port", str(free_port()), *secrets, password=SECRET))
        following = ("--port", str(free_port()), "--replicaof", f"127.0.0.1 {port_of(primary)}")
        replica = end.enter_context(redis_server(*following, *secrets, password=SECRET))
        assert eventually(lambda: has_replicas(primary.client, 1))
        ports = [free_port() for _ in range(3)]
        for port in ports:
            folder = end.enter_context(tempfile.TemporaryDirectory())
            file = Path(folder) / "sentinel.conf"
            file.write_text(
                SENTINEL.format(
                    port=port, folder=folder, primary=port_of(primary), secret=SECRET, own_secret=SENTINELS_SECRET
                )
                + f"sentinel sentinel-pass {SENTINELS_SECRET}\n"
            )
            process = subprocess.Popen([program, str(file)], stdout=subprocess.DEVNULL)
            end.callback(process.wait, SECONDS_TO_WAIT)
            end.callback(process.kill)
        watched = Sentinels([primary, replica], ports)
        assert eventually(lambda: _answers(watched.agree))
        yield watched


class RedisCluster:
    """Three primaries and a replica of each; the address names one node alone."""

    def __init__(self, nodes: list[RedisServer], named: int) -> None:
        self.nodes = nodes
        self.address = f"redis+cluster://127.0.0.1:{named}?stream=log"

    def owner_of(self, key: str) -> RedisServer | None:
        """Return the primary that has a key, by what a living node knows; None if that is not up to date."""
        living = next(each for each in self.nodes if each.process.poll() is None)
        slot = int(living.client.execute_command("CLUSTER KEYSLOT", key))
        port = next(
            primary[1]
            for first, last, primary, *_ in living.client.execute_command("CLUSTER SLOTS")
            if first <= slot <= last
        )
        alive = [each for each in self.nodes if each.process.poll() is None]
        return next((each for each in alive if port_of(each) == port), None)

    def replica_of(self, primary: RedisServer) -> RedisServer:
        port = port_of(primary)
        return next(each for each in self.nodes if each.client.info("replication").get("master_port") == port)

    def promote(self, replica: RedisServer, key: str) -> None:
        """Make a replica the primary in an orderly way. The one that was it keeps its connections."""
        assert eventually(lambda: _is_ready(replica))
        # A node gives up after five seconds, in which a busy machine may not bring it about.
        for _ in range(SECONDS_TO_WAIT // 6):
            with suppress(redis.ResponseError):
                replica.client.execute_command("CLUSTER FAILOVER")
            if eventually(lambda: self.owner_of(key) is replica, 6):
                return
        pytest.fail("The nodes of the cluster do not change places.")


@contextmanager
def redis_cluster(key: str) -> Iterator[RedisCluster]:
    """Run a cluster until the end of the block. Its address names the node that has the key."""
    program = program_or_skip("redis-cli")
    with ExitStack() as end:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
        nodes = [
            end.enter_context(
                redis_server("--port", str(free_port()), "--cluster-port", str(free_port()), *options)
            )
            for _ in range(6)
        ]  # fmt: skip
        hosts = [f"127.0.0.1:{port_of(node)}" for node in nodes]
        command = [program, "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS_TO_WAIT)
        assert eventually(lambda: all(_is_ready(node) for node in nodes))
        owner = RedisCluster(nodes, 0).owner_of(key)
        assert owner is not None
        yield RedisCluster(nodes, port_of(owner))


def _is_ready(node: RedisServer) -> bool:
    known = node.client.info("replication")
    in_sync = known["master_link_status"] == "up" if known["role"] == "slave" else has_replicas(node.client, 1)
    return bool(in_sync and node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _answers(question: Any) -> bool:
    try:
        return bool(question())
    except redis.RedisError:
        return False
