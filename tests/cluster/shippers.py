"""The processes that bring the audit log from its Redis stream into the database."""

import socket
import sys
from pathlib import Path

import redis

from tests.cluster.processes import Process, wait_until
from tests.cluster.redis_pair import RedisPair
from tests.support.processes import ROOT

STREAM, GROUP = "keys:audit", "keys_ship"
# In a database of Redis beside that of the cache.
DATABASE = 1


class Shipper(Process):
    """One `manage.py keys_ship`. Takes over soon what another left behind."""

    def __init__(self, number: int, folder: Path, environment: dict[str, str], redis_pair: RedisPair) -> None:
        command = [sys.executable, "manage.py", "keys_ship", "--claim-after", "2s"]
        super().__init__(f"shipper{number}", command, folder, environment, cwd=ROOT)
        self._redis = redis_pair

    def is_ready(self) -> bool:
        return self.consumer in self._in_hands()

    @property
    def consumer(self) -> str:
        """The name that the group knows it by."""
        return f"{socket.gethostname()}-{self.pid}"

    def kill_with_entries(self) -> int:
        """Kill it at a moment at which it has taken entries and not finished them, and return how many they are."""
        wait_until(self._freeze_with_entries, f"{self.name} has entries in its hands")
        entries = self.entries_of(self.consumer)
        self.kill()
        return entries

    def _freeze_with_entries(self) -> bool:
        self.freeze()
        if self.entries_of(self.consumer):
            return True
        self.thaw()
        return False

    def entries_of(self, consumer: str) -> int:
        """Return how many entries a member of the group has taken and not finished."""
        return self._in_hands().get(consumer, 0)

    def _in_hands(self) -> dict[str, int]:
        with self._redis.connect(DATABASE) as client:
            try:
                return {each["name"].decode(): each["pending"] for each in client.xinfo_consumers(STREAM, GROUP)}
            except redis.ResponseError:
                # Nobody has written or taken anything yet.
                return {}
