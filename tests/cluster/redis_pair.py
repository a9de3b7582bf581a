"""Redis as the cluster has it: a primary and its replica, behind one address that leads to the primary."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from tests.cluster.processes import Process, free_port, new_folder, path_of, wait_until
from tests.support.processes import ROOT


class RedisServer(Process):
    """A Redis that writes each command to its disk before it answers."""

    def __init__(self, name: str, folder: Path) -> None:
        self.port = free_port()
        home = new_folder(folder / name)
        arguments = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(home), "--save", ""]
        arguments += ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
        super().__init__(name, [path_of("redis-server"), *arguments], folder)

    def connect(self, database: int = 0) -> Any:
        """Return a client for one of its databases, which closes its connection at the end of a block."""
        return redis.Redis(port=self.port, db=database, socket_timeout=10)

    def is_ready(self) -> bool:
        try:
            with self.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def follow(self, primary: "RedisServer") -> None:
        """Make it the replica of another one."""
        with self.connect() as client:
            client.replicaof("127.0.0.1", primary.port)

    def is_copy_of(self, primary: "RedisServer") -> bool:
        """Tell whether it follows that one, and has all that it has."""
        with suppress(redis.RedisError), self.connect() as mine, primary.connect() as other:
            known = mine.info("replication")
            return (
                known["role"] == "slave"
                and known["master_port"] == primary.port
                and known["master_link_status"] == "up"
                and len(other.info("replication").get("slave0", {})) > 0
            )
        return False


class Forwarder(Process):
    """Leads to the primary. It is never killed: what it stands for is a matter of the network."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._target = new_folder(folder / "forwarder") / "port"
        command = [sys.executable, "-m", "tests.cluster.forwarder", str(self.port), str(self._target)]
        super().__init__("forwarder", command, folder, cwd=ROOT)

    def lead_to(self, server: RedisServer) -> None:
        self._target.write_text(str(server.port))


class RedisPair:
    """Two servers. What is done to "Redis" is done to that of them which is the primary."""

    def __init__(self, folder: Path) -> None:
        self._servers = [RedisServer(f"redis{number}", folder) for number in range(2)]
        self.forwarder = Forwarder(folder)

    @property
    def primary(self) -> RedisServer:
        return self._servers[0]

    @property
    def replica(self) -> RedisServer:
        return self._servers[1]

    def url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.forwarder.port}/{database}"

    def connect(self, database: int = 0) -> Any:
        """Return a client for one of the primary's databases, which closes its connection at the end of a block."""
        return self.primary.connect(database)

    def begin(self) -> None:
        """Start what does not run of it, and return when the replica follows the primary."""
        for server in self._servers:
            server.begin()
        self.replica.follow(self.primary)
        self._lead_to_primary()

    def _lead_to_primary(self) -> None:
        self.forwarder.lead_to(self.primary)
        self.forwarder.begin()
        wait_until(lambda: self.replica.is_copy_of(self.primary), f"{self.replica.name} follows {self.primary.name}")

    def hand_over(self) -> None:
        """Make the replica the primary in an orderly way (`FAILOVER`). Who is connected stays with the old one."""
        with self.connect() as client:
            client.execute_command("FAILOVER")
        wait_until(lambda: self.primary.is_copy_of(self.replica), f"{self.primary.name} follows {self.replica.name}")
        self._servers.reverse()
        self._lead_to_primary()

    def lose_primary(self) -> None:
        """Kill the primary, and make the replica the primary."""
        self.primary.kill()
        with self.replica.connect() as client:
            client.replicaof("NO", "ONE")
        self._servers.reverse()
        self.forwarder.lead_to(self.primary)

    def kill(self) -> None:
        """Kill the primary."""
        self.primary.kill()

    def freeze(self) -> None:
        self.primary.freeze()

    def thaw(self) -> None:
        self.primary.thaw()

    def end(self) -> None:
        """Kill all of it."""
        for process in (self.forwarder, *self._servers):
            process.kill()

    def said(self) -> str:
        """Return the last words of each."""
        return "\n".join(process.said() for process in (self.forwarder, *self._servers))
