"""The order of the play: which service runs with which environment while which scene is played."""

import time
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from example_project.demo import behind_nginx
from example_project.demo.behind_nginx import BehindNginx
from example_project.demo.calls import AUTH_SERVICE, NGINX, TTS_BACKEND
from example_project.demo.cast import Cast
from example_project.demo.printing import Page
from example_project.demo.processes import Service
from example_project.demo.scenes import calling_service, database_keys, environment_keys, guarded_elsewhere, own_keys
from example_project.demo.seed import ADMIN
from example_project.demo.stage import Stage

NOT_PLAYED = "A service that is not Django, behind nginx, is not played: there is no nginx (apt-get install nginx)"
MAKE_A_KEY = 'curl -H "X-API-Key: $(python manage.py keys_create Shop --scope orders:read)"'
UNSET = dict.fromkeys(["INTERNAL_API_KEY", "WEBHOOK_API_KEY", "TRACKING_INGEST_API_KEY"], "")


class Play:
    """One run: `folder` takes the services' logs, and what belongs to the TTS backend alone."""

    def __init__(self, cast: Cast, page: Page, folder: Path) -> None:
        self.cast = cast
        self.page = page
        self.dotenv = folder / ".env"
        self.auth = Service(AUTH_SERVICE, folder / "auth-service.log")
        self.tts = Service(TTS_BACKEND, folder / "tts-backend.log", folder)
        self.gateway = BehindNginx(folder) if behind_nginx.is_there() else None
        gateways = {} if self.gateway is None else {NGINX: self.gateway}
        self.stage = Stage(cast, {AUTH_SERVICE: self.auth, TTS_BACKEND: self.tts, **gateways}, page)

    def perform(self) -> None:
        """Play all of it. CommandError if anything is not as expected."""
        started = time.monotonic()
        self._launch_all()
        self._system_a()
        self._systems_b_and_c()
        self._calling_service()
        self._guarded_elsewhere()
        self._endings()
        self.stage.conclude(time.monotonic() - started)

    def serve(self, admin_password: str | None) -> None:
        """Start all services once more and return at Ctrl-C; CommandError if the auth service ends by itself.

        This time the auth service has the keys that our own environment holds, as they are of use to somebody.
        """
        self.tts.stop()
        self.dotenv.write_text("")
        scopes = ["users:read", guarded_elsewhere.SCOPE]
        self.cast.tts_key = self.cast.new_key("TTS-Backend", scopes=scopes)
        self.auth.start({})
        self._launch_tts()
        if self.gateway is not None:
            self.gateway.launch({})
            self.gateway.start()
        self.tts.wait_until_ready()
        self._print_addresses(admin_password)
        try:
            self.auth.wait()
        except KeyboardInterrupt:
            return
        raise CommandError(f"The {self.auth.name} has ended.\n{self.auth.last_words()}")

    def stop(self) -> None:
        """End all services."""
        self.stage.close()
        if self.gateway is not None:
            self.gateway.stop()
        self.tts.stop()
        self.auth.stop()

    def _launch_all(self) -> None:
        self.auth.start(self.cast.environment)
        self.dotenv.touch()
        self._launch_tts()  # and these start while the first scenes are played
        if self.gateway is not None:
            self.gateway.launch(self.cast.environment)
        database = f"{connection.display_name} {Path(connection.settings_dict['NAME']).name}"
        self.page.title("django-service-keys", f"{self.auth.url}  {database}  run {self.cast.run}")

    def _launch_tts(self) -> None:
        self.tts.launch(
            {
                "DJANGO_SETTINGS_MODULE": "example_project.downstream.settings",
                "AUTH_SERVICE_URL": self.auth.url,
                "AUTH_API_KEY": str(self.cast.tts_key.key),
            },
            without=["AUTH_API_KEY_NEXT"],
        )

    def _restart(self, environment: dict[str, str]) -> None:
        self.stage.settle()
        self.auth.stop()
        self.auth.start(self.cast.environment | environment)

    def _system_a(self) -> None:
        self.page.heading("A  A key guards a user's details", "system A: keys in the database")
        self.stage.play(database_keys.guarded(self.cast))
        self.page.heading("A  Employees, a batch of users, and who am I", "X-API-Key")
        self.stage.play(database_keys.look_ups(self.cast))
        self.page.heading("A  Users come with a JSON Web Token", "a key does not open what is theirs")
        self.stage.play(database_keys.users(self.cast))
        self.page.heading("A  Users have keys of their own", "a key goes with its owner")
        self.stage.play(own_keys.made_by_users(self.cast))
        self.page.heading("A  A key's life", "rate, rotation with overlap, deactivation")
        self.stage.play(database_keys.life_cycle(self.cast))

    def _systems_b_and_c(self) -> None:
        self.page.heading("B  Internal jobs", "INTERNAL_API_KEY in X-Internal-Api-Key")
        self.stage.play(environment_keys.internal_jobs(self.cast))
        self.page.heading("C  Tracking ingest", "dedicated key, shared key, or a key in the database")
        self.stage.play(environment_keys.tracking_ingest(self.cast))
        self.page.heading("C  The other four APIs", "the shared key alone")
        self.stage.play(environment_keys.shared_apis(self.cast))

    def _calling_service(self) -> None:
        self.tts.wait_until_ready()
        self.page.heading("The TTS backend calls the auth service", "keys.client")
        self.stage.play(calling_service.calls_on(self.cast, self.dotenv))

    def _guarded_elsewhere(self) -> None:
        self.page.heading("The TTS backend asks about keys", "introspection")
        self.stage.play(guarded_elsewhere.introspection(self.cast))
        if self.gateway is None:
            self.page.remark(NOT_PLAYED)
            return
        self.gateway.start()
        self.page.heading("A service that is not Django, behind nginx", "nginx asks about each request")
        self.stage.play(guarded_elsewhere.behind_nginx(self.cast))
        self.stage.settle()
        self.gateway.auth.stop()
        self.stage.play(guarded_elsewhere.nobody_to_ask(self.cast))
        self.gateway.stop()

    def _endings(self) -> None:
        self._restart({"TRACKING_INGEST_ALLOW_SHARED_KEY": "false"})
        self.page.heading("C  The transition has ended", "restarted with TRACKING_INGEST_ALLOW_SHARED_KEY=false")
        self.stage.play(environment_keys.transition_ended(self.cast))
        self.stage.play(calling_service.after_a_restart(self.cast))
        self._restart(UNSET)
        self.page.heading("B, C  Not configured", "restarted with no key in the environment")
        self.stage.play(environment_keys.nothing_set(self.cast))
        self.stage.play(calling_service.key_ended(self.cast))
        self.stage.settle()
        self.auth.stop()
        self.stage.play(calling_service.auth_service_down(self.cast))

    def _print_addresses(self, admin_password: str | None) -> None:
        anna = self.cast.sample.users["demo-anna"]
        if admin_password is not None:
            admin = f"{ADMIN} / {admin_password}"
        elif settings.DEBUG:
            admin = f"{ADMIN}, with the password that somebody gave it (manage.py changepassword {ADMIN})"
        else:
            admin = "without DEBUG no log-in is made for it (manage.py createsuperuser)"
        self.page.heading("Running until Ctrl-C", "the auth service with the keys of your own environment")
        self.page.write(f"  admin        {self.auth.url}/admin/  {admin}")
        self.page.write(
            f"  log-in       {self.auth.url}/api/v1/auth/login/  {anna.username} / "
            f"{self.cast.sample.passwords[anna.username]}"
        )
        self.page.write(f"  own keys     {self.auth.url}/account/keys/  with the same")
        if self.gateway is not None:
            self.page.write(f"  gateway      {self.gateway.url}/orders/7/  opens to a key with orders:read:")
            self.page.write(f"  {MAKE_A_KEY} \\")
            self.page.write(f"       {self.gateway.url}/orders/7/")
        self.page.write(f"  TTS backend  {self.tts.url}/greetings/?user={anna.pk}")
