"""A router that chooses the database by the request."""

from contextvars import ContextVar

region: ContextVar[str] = ContextVar("region", default="default")


class ByRegion:
    """Everything is in the database of the region that is set."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return region.get()

    def db_for_write(self, model: object, **hints: object) -> str:
        return region.get()
