"""System B of the example: the internal jobs API and its one secret."""

import pytest
from django.test import Client

from example_project.jobs.models import Job
from keys.models import APIKey, AuditEvent

pytestmark = pytest.mark.django_db

JOBS = "/_internal/jobs"
SECRET = "internal-secret-of-32-characters-or-more"
NEXT_SECRET = "another-secret-of-32-characters-or-more"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INTERNAL_API_KEY", SECRET)
    return SECRET


def test_lists_jobs_and_their_state(client: Client, secret: str) -> None:
    first = Job.objects.create(name="nightly report")
    second = Job.objects.create(name="import", state=Job.State.DONE)
    response = client.get(JOBS, headers={"X-Internal-Api-Key": secret})
    assert response.status_code == 200
    assert response.json() == [
        {"id": second.pk, "name": "import", "state": "done"},
        {"id": first.pk, "name": "nightly report", "state": "queued"},
    ]
    assert AuditEvent.objects.get(event="used").key_name == "env:INTERNAL_API_KEY"


@pytest.mark.parametrize("value", ["", " ", ",", " , ,\n"])
@pytest.mark.parametrize("headers", [{}, {"X-Internal-Api-Key": SECRET}, {"X-Internal-Api-Key": ","}])
def test_not_configured(client: Client, monkeypatch: pytest.MonkeyPatch, value: str, headers: dict[str, str]) -> None:
    monkeypatch.setenv("INTERNAL_API_KEY", value)
    response = client.get(JOBS, headers=headers)
    assert (response.status_code, response.json()) == (503, {"detail": "Internal API not configured"})


@pytest.mark.parametrize("presented", [None, "wrong", SECRET[:-1], f"{SECRET}x", "\x00", "é"])
def test_wrong_or_missing(client: Client, secret: str, presented: str | None) -> None:
    headers = {} if presented is None else {"X-Internal-Api-Key": presented}
    response = client.get(JOBS, headers=headers)
    assert (response.status_code, response.json()) == (401, {"detail": "Invalid or missing internal API key"})


def test_several_values_are_accepted_while_it_is_rotated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNAL_API_KEY", f" {SECRET} ,, {NEXT_SECRET}\n")
    for presented in (SECRET, NEXT_SECRET):
        assert client.get(JOBS, headers={"X-Internal-Api-Key": presented}).status_code == 200


def test_other_keys_and_other_headers_do_not_open_it(client: Client, secret: str) -> None:
    key = APIKey.objects.create(name="TTS-Backend").key
    for headers in (
        {"X-API-Key": secret},
        {"Authorization": f"Api-Key {secret}"},
        {"X-API-Key": key},
        {"X-Internal-Api-Key": key},
    ):
        assert client.get(JOBS, headers=headers).status_code == 401
    assert client.get(f"{JOBS}?X-Internal-Api-Key={secret}").status_code == 401


@pytest.mark.parametrize("path", ["/_internal/", "/_internal/jobs/", "/_internal/jobs/1", "/_internal/x%0A/y"])
def test_guard_covers_the_whole_prefix(client: Client, monkeypatch: pytest.MonkeyPatch, secret: str, path: str) -> None:
    for method in ("get", "post", "put", "patch", "delete", "options"):
        assert getattr(client, method)(path).status_code == 401
        assert getattr(client, method)(path, headers={"X-Internal-Api-Key": secret}).status_code == 404
    monkeypatch.setenv("INTERNAL_API_KEY", "")
    assert client.get(path).status_code == 503


def test_jobs_are_read_only(client: Client, secret: str) -> None:
    assert client.post(JOBS, headers={"X-Internal-Api-Key": secret}).status_code == 405
