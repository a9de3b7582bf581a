"""A process per guarded service, so that its settings, threads, connections and garbage are its own."""

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, Self, TypeVar

from tests.benchmarks import worker

P = ParamSpec("P")
T = TypeVar("T")


def environment(guard: str, database_url: str) -> dict[str, str]:
    """Return the variables by which the settings know which service they are."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "BENCHMARK_GUARD": guard,
        "BENCHMARK_DATABASE_URL": database_url,
    }


class Service:
    """One guarded service; a context manager that ends its process."""

    def __init__(self, guard: str, database_url: str) -> None:
        self._executor = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=worker.start, initargs=(environment(guard, database_url),)
        )

    def begin(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function of `worker` or `tracing` in the process, without waiting for its result."""
        return self._executor.submit(function, *args, **kwargs)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of `worker` or `tracing` in the process; raises what it raises."""
        return self.begin(function, *args, **kwargs).result()

    def close(self) -> None:
        """End the process."""
        self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
