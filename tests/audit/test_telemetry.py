"""What OpenTelemetry gets about keys, with its SDK and an exporter in memory."""

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from keys.audit import telemetry
from keys.models import APIKey
from keys.testing import APIKeyClient
from tests.support.processes import ROOT
from tests.support.redis_servers import redis_server

WRONG = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def reader() -> InMemoryMetricReader:
    # OpenTelemetry takes one provider in the life of a process.
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    trace.set_tracer_provider(TracerProvider())
    return reader


def counted(reader: InMemoryMetricReader, counter: str, **by: str) -> float:
    """Return how often something was counted whose attributes are these, among others."""
    data: Any = reader.get_metrics_data()
    wanted = {f"api_key.{attribute}": value for attribute, value in by.items()}
    values: list[float] = [
        point.value
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == counter
        for point in metric.data.data_points
        if wanted.items() <= point.attributes.items()
    ]
    return sum(values)


def span_around(request: Any) -> dict[str, Any]:
    """Make a request inside a span, as OpenTelemetry's middleware does, and return the span's attributes."""
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(processor)
    with trace.get_tracer("tests").start_as_current_span("GET guarded"):
        request()
    processor.shutdown()
    (span,) = exporter.get_finished_spans()
    return dict(span.attributes or {})


@pytest.mark.django_db
def test_a_use_is_counted_by_key_and_endpoint_and_named_on_the_span(reader: InMemoryMetricReader) -> None:
    client = APIKeyClient(name="TTS counted")
    attributes = span_around(lambda: client.get("/guarded/"))
    assert counted(reader, "api_key.uses", name="TTS counted", endpoint="guarded") == 1
    assert attributes == {"api_key.name": "TTS counted", "api_key.prefix": client.key.prefix}


@pytest.mark.django_db
def test_the_owner_is_named_on_the_span_and_is_no_label(reader: InMemoryMetricReader, settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    owner = User.objects.create_user("anna")
    client = APIKeyClient(name="TTS owned", owner=owner, scopes=[])
    for path in ("/guarded/", "/scoped/"):
        assert span_around(partial(client.get, path))["api_key.owner"] == f"auth.user:{owner.pk}"
    for counter in ("api_key.uses", "api_key.refusals"):
        assert counted(reader, counter, name="TTS owned") >= 1
        assert counted(reader, counter, owner=f"auth.user:{owner.pk}") == 0


@pytest.mark.django_db
def test_a_refusal_is_counted_by_its_reason(reader: InMemoryMetricReader) -> None:
    before = counted(reader, "api_key.refusals", reason="unknown")
    attributes = span_around(lambda: Client().get("/guarded/", headers={"X-API-Key": WRONG}))
    assert counted(reader, "api_key.refusals", reason="unknown") == before + 1
    assert attributes["api_key.reason"] == "unknown"
    assert WRONG not in str(attributes)


@pytest.mark.django_db
def test_a_missing_scope_is_counted_too(reader: InMemoryMetricReader) -> None:
    APIKeyClient(name="Scopeless", scopes=[]).get("/scoped/")
    assert counted(reader, "api_key.refusals", name="Scopeless", reason="scope", endpoint="scoped") == 1


@pytest.mark.django_db
def test_a_host_that_anybody_may_name_is_no_label_of_its_own(
    reader: InMemoryMetricReader, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEYS = {**settings.KEYS, "TRUSTED_PROXIES": 1}
    monkeypatch.setattr(telemetry, "_hosts", set())
    monkeypatch.setattr(telemetry, "MOST_HOSTS", 2)
    shop = APIKeyClient(name="Shop")

    def ask(client: Client, host: str) -> None:
        client.get("/gateway/", headers={"X-Forwarded-Host": host})

    def refused(host: str) -> float:
        return counted(reader, "api_key.refusals", endpoint=f"gateway:{host}")

    stranger = Client(headers={"X-API-Key": WRONG})
    for host in ("orders.example", "a.example"):
        ask(stranger, host)
    assert (refused("orders.example"), refused("a.example"), refused("*")) == (0, 0, 2)
    for host in ("orders.example", "billing.example", "hr.example", "orders.example"):
        ask(shop, host)
    used = {
        host: counted(reader, "api_key.uses", name="Shop", endpoint=f"gateway:{host}")
        for host in ("orders.example", "billing.example", "hr.example", "*")
    }
    assert used == {"orders.example": 2, "billing.example": 1, "hr.example": 0, "*": 1}
    ask(stranger, "orders.example")
    assert refused("orders.example") == 1


@pytest.mark.django_db
def test_the_steps_of_a_life_are_counted(
    reader: InMemoryMetricReader, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    before = counted(reader, "api_key.changes", event="deactivated")
    with django_capture_on_commit_callbacks(execute=True):
        APIKey.objects.create(name="TTS").deactivate()
    assert counted(reader, "api_key.changes", event="deactivated") == before + 1


def test_what_waits_in_the_stream_is_measured(reader: InMemoryMetricReader, settings: Settings) -> None:
    def measured() -> tuple[float, float]:
        return counted(reader, "api_key.audit.backlog"), counted(reader, "api_key.audit.lag")

    assert measured() == (0, 0)
    with redis_server() as server:
        settings.KEYS = {"AUDIT_SINK": server.address}
        seconds, _ = server.client.time()
        server.client.xadd("log", {"row": "{}"}, id=f"{(seconds - 60) * 1000}-0")
        server.client.xadd("log", {"row": "{}"})
        waiting, lag = measured()
        assert waiting == 2
        assert 60 <= lag < 120
    # Without Redis they say nothing, and disturb nobody.
    measured()


@pytest.mark.matrix
@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.metrics"])
def test_without_opentelemetry_nobody_listens(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'keys'])\n"
        "django.setup(); from keys import signals\n"
        "assert not signals.key_used.receivers + signals.key_refused.receivers + signals.key_life_cycle.receivers"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)
