"""What stands behind nginx in the demo: a service that knows nothing of keys, and an auth service for nginx alone."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from django.core.management.base import CommandError

from example_project.demo.processes import Service
from example_project.gateway.running import Gateway, GatewayError, gateway_running, program_of

CONFIGURATION = "nginx.conf"


def is_there() -> bool:
    """Tell whether there is an nginx."""
    return program_of(CONFIGURATION) is not None


class BehindNginx:
    """nginx and the two services behind it. `folder` takes their logs.

    This auth service is the same once more, on the same database. It believes what its proxy says of the request, and
    is a process of its own as the other one has callers that no proxy stands before: they could say what they like.
    """

    name = "nginx"

    def __init__(self, folder: Path) -> None:
        self.auth = Service("auth service behind nginx", folder / "auth-service-behind-nginx.log")
        self.orders = Service("service of orders", folder / "orders.log", module="example_project.demo.orders")
        self._gateway: Gateway | None = None
        self._running = ExitStack()

    @property
    def url(self) -> str:
        if self._gateway is None:
            raise RuntimeError("nginx has not been started.")
        return self._gateway.url

    def launch(self, environment: Mapping[str, str]) -> None:
        """Start both services, and do not wait for them."""
        self.orders.launch({})
        self.auth.launch({**environment, "TRUSTED_PROXIES": "1"})

    def start(self) -> None:
        """Start nginx as soon as both services are there. CommandError if one of the three does not start."""
        self.orders.wait_until_ready()
        self.auth.wait_until_ready()
        addresses = {"auth_service": self.auth.address, "guarded_service": self.orders.address}
        try:
            self._gateway = self._running.enter_context(gateway_running(CONFIGURATION, **addresses))
        except GatewayError as error:
            raise CommandError(str(error)) from None

    def stop(self) -> None:
        """End all three."""
        self._gateway = None
        self._running.close()
        self.orders.stop()
        self.auth.stop()

    def last_words(self) -> str:
        """Return the end of the logs."""
        said = self._gateway.log.read_text(errors="replace") if self._gateway is not None else ""
        nginx = "\n".join(["--- the end of what nginx wrote", *said.splitlines()[-15:]])
        return "\n".join([nginx, self.auth.last_words(), self.orders.last_words()])
