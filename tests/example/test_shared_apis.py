"""System C of the example: links, records and automation, behind the key that they share."""

import json
from typing import Any

import pytest
from django.test import Client

from example_project.jobs.models import Job
from example_project.tracking.models import Link, Record
from tests.support.callers import post

pytestmark = pytest.mark.django_db

LINKS = "/api/link-tracking/links"
RECORDS = "/api/db/records"
RUN = "/api/automation/run"


class TestLinks:
    def test_are_added_and_listed(self, shared: Client) -> None:
        response = post(shared, LINKS, {"slug": "promo", "url": "https://example.com/promo"})
        assert response.status_code == 201
        assert response.json() | {"created_at": ""} == {
            "slug": "promo",
            "url": "https://example.com/promo",
            "created_at": "",
        }
        assert shared.get(LINKS).json() == [response.json()]

    def test_have_a_slug_of_their_own(self, shared: Client) -> None:
        promo = Link.objects.create(slug="promo", url="https://example.com/promo")
        response = post(shared, LINKS, {"slug": "promo", "url": "https://example.com/other"})
        assert (response.status_code, response.json()) == (400, {"slug": ["A link with this slug already exists."]})
        assert Link.objects.get().url == promo.url

    @pytest.mark.parametrize(
        "changes",
        [
            {"slug": ""},
            {"slug": "two words"},
            {"slug": "a\x00"},
            {"slug": "a" * 101},
            {"slug": None},
            {"url": "javascript:alert(1)"},
            {"url": "https://[/"},
            {"url": "https://example.com/\x00"},
            {"url": "https://example.com/" + "a" * 2000},
        ],
        ids=lambda changes: repr(changes)[:30],
    )
    def test_are_checked(self, shared: Client, changes: dict[str, Any]) -> None:
        assert post(shared, LINKS, {"slug": "promo", "url": "https://example.com", **changes}).status_code == 400


class TestRecords:
    @pytest.mark.parametrize("data", [{"a": [1, None, {"b": 0.5}]}, [], "text", 0, False, "\\u0000", "é😀", 10**4000])
    def test_are_written_and_read(self, shared: Client, data: Any) -> None:
        response = post(shared, RECORDS, {"name": "limits", "data": data})
        assert response.status_code == 201
        assert (response.json()["name"], response.json()["data"]) == ("limits", data)
        assert shared.get(RECORDS).json() == [response.json()]

    @pytest.mark.parametrize(
        "body",
        [
            '{"name": "x"}',
            '{"name": "", "data": 1}',
            '{"name": "a\\u0000", "data": 1}',
            '{"name": "x", "data": "a\\u0000"}',
            '{"name": "x", "data": "\\\\\\u0000"}',
            '{"name": "x", "data": [{"a\\u0000": 1}]}',
            '{"name": "x", "data": "\\ud800"}',
            '{"name": "x", "data": NaN}',
            '{"name": "x", "data": 1e999}',
            '{"name": "x", "data": [-1e999]}',
            '{"name": "x", "data": ' + "[" * 33 + "]" * 33 + "}",
            json.dumps({"name": "x", "data": "a" * 16_384}),
            json.dumps({"name": "x" * 101, "data": 1}),
        ],
        ids=lambda body: body[:40],
    )
    def test_are_small_and_storable(self, shared: Client, body: str) -> None:
        assert post(shared, RECORDS, body).status_code == 400
        assert not Record.objects.exists()


class TestAutomation:
    def test_adds_a_job_that_is_seen_by_the_internal_api(self, shared: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INTERNAL_API_KEY", "internal-secret-of-32-characters-or-more")
        response = post(shared, RUN, {"name": "nightly report", "state": "done"})
        job = Job.objects.get()
        assert response.status_code == 201
        assert response.json() == {"id": job.pk, "name": "nightly report", "state": "queued"}
        headers = {"X-Internal-Api-Key": "internal-secret-of-32-characters-or-more"}
        assert Client().get("/_internal/jobs", headers=headers).json() == [response.json()]

    @pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a\x00"}, {"name": "a" * 101}, [], {"name": []}])
    def test_wants_a_name(self, shared: Client, body: Any) -> None:
        assert post(shared, RUN, body).status_code == 400
        assert not Job.objects.exists()
