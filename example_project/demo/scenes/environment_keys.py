"""Systems B and C: keys that live in environment variables."""

from uuid import uuid4

from example_project.demo.calls import Call, Scene
from example_project.demo.cast import NOBODY, STRANGER, Cast, with_key
from example_project.demo.scenes.database_keys import INVALID, MISSING

JOBS = "GET /_internal/jobs"
JOBS_REFUSED = "Invalid or missing internal API key"
INGEST_TEST = "POST /api/tracking-ingest/test"
INGEST_BATCH = "POST /api/tracking-ingest/batch"
LINKS = "/api/link-tracking/links"
ANALYZE = "GET /api/analyze/clicks"
RECORDS = "/api/db/records"
AUTOMATION = "POST /api/automation/run"
WORKS = {"authenticated": True, "success": True, "message": "API connection successful"}


def internal_jobs(cast: Cast) -> Scene:
    """INTERNAL_API_KEY in X-Internal-Api-Key, and the shared key that adds a job."""
    internal = cast.with_variable("INTERNAL_API_KEY", "INTERNAL_API_KEY", "X-Internal-Api-Key")
    shared = cast.with_variable("shared key", "WEBHOOK_API_KEY")
    misplaced = cast.with_variable("in X-API-Key instead", "INTERNAL_API_KEY")
    wrong = cast.with_variable("another secret", "WEBHOOK_API_KEY", "X-Internal-Api-Key")
    job = {"name": cast.run, "state": "queued"}
    yield Call(shared, AUTOMATION, 201, job, {"name": cast.run}, logged="used")
    yield Call(internal, JOBS, 200, job, logged="used")
    yield Call(wrong, JOBS, 401, JOBS_REFUSED, logged="unknown")
    yield Call(misplaced, JOBS, 401, JOBS_REFUSED)
    yield Call(NOBODY, JOBS, 401, JOBS_REFUSED)


def tracking_ingest(cast: Cast) -> Scene:
    """The tracking ingest takes the third party's own key, the shared one, and keys from the database."""
    dedicated = cast.with_variable("dedicated key", "TRACKING_INGEST_API_KEY")
    shared = cast.with_variable("shared key", "WEBHOOK_API_KEY")
    partner, tts = cast.partner_key, cast.tts_key
    yield Call(dedicated, INGEST_TEST, 200, WORKS, logged="used")
    yield Call(shared, INGEST_TEST, 200, WORKS, logged="used")
    yield Call(with_key(partner), INGEST_TEST, 200, WORKS, logged="used")
    yield Call(with_key(tts), INGEST_TEST, 403, mentions="tracking:write", logged="scope")
    yield Call(STRANGER, INGEST_TEST, 401, INVALID, logged="unknown")
    yield Call(NOBODY, INGEST_TEST, 401, MISSING)
    yield Call(shared, f"POST {LINKS}", 201, {"slug": cast.run}, _link(cast.run), logged="used")
    clicks = [{"click_id": str(uuid4()), "link": cast.run, "clicked_at": "2026-03-01T12:00:00Z"} for _ in range(2)]
    batch = {"clicks": clicks}
    yield Call(dedicated, INGEST_BATCH, 200, {"stored": 2, "duplicates": 0}, batch, logged="used")
    yield Call(with_key(partner), INGEST_BATCH, 200, {"stored": 0, "duplicates": 2}, batch, logged="used")
    bad = {"clicks": [*clicks, {**clicks[0], "link": "nowhere"}]}
    yield Call(shared, INGEST_BATCH, 400, {"errors": {"2": {"link": ["Unknown link."]}}}, bad, logged="used")
    yield Call(with_key(tts), INGEST_BATCH, 403, body=batch, logged="scope")
    yield Call(NOBODY, INGEST_BATCH, 401, MISSING, batch)


def shared_apis(cast: Cast) -> Scene:
    """On the other four APIs only the shared key works."""
    dedicated = cast.with_variable("dedicated key", "TRACKING_INGEST_API_KEY")
    shared = cast.with_variable("shared key", "WEBHOOK_API_KEY")
    partner = with_key(cast.partner_key)
    record = {"name": cast.run, "data": {"retries": 3}}
    yield Call(shared, f"GET {LINKS}", 200, {"slug": cast.run}, logged="used")
    yield Call(dedicated, f"GET {LINKS}", 401, INVALID, logged="unknown")
    yield Call(partner, f"POST {LINKS}", 401, INVALID, _link("refused"), logged="unknown")
    yield Call(shared, ANALYZE, 200, {"link": cast.run, "clicks": 2}, logged="used")
    yield Call(dedicated, ANALYZE, 401, INVALID, logged="unknown")
    yield Call(partner, ANALYZE, 401, INVALID, logged="unknown")
    yield Call(shared, f"POST {RECORDS}", 201, {"name": cast.run}, record, logged="used")
    yield Call(shared, f"GET {RECORDS}", 200, {"data": {"retries": 3}}, logged="used")
    yield Call(STRANGER, f"GET {RECORDS}", 401, INVALID, logged="unknown")
    yield Call(NOBODY, f"POST {RECORDS}", 401, INVALID, record)
    yield Call(dedicated, AUTOMATION, 401, INVALID, {"name": cast.run}, logged="unknown")
    yield Call(partner, AUTOMATION, 401, INVALID, {"name": cast.run}, logged="unknown")
    yield Call(NOBODY, AUTOMATION, 401, INVALID, {"name": cast.run})


def transition_ended(cast: Cast) -> Scene:
    """TRACKING_INGEST_ALLOW_SHARED_KEY=false: the ingest no longer takes the shared key."""
    shared = cast.with_variable("shared key", "WEBHOOK_API_KEY")
    partner = with_key(cast.partner_key)
    yield Call(shared, INGEST_TEST, 401, INVALID, logged="unknown")
    yield Call(cast.with_variable("dedicated key", "TRACKING_INGEST_API_KEY"), INGEST_TEST, 200, WORKS, logged="used")
    yield Call(partner, INGEST_TEST, 200, WORKS, logged="used")
    yield Call(shared, f"GET {LINKS}", 200, {"slug": cast.run}, logged="used")


def nothing_set(cast: Cast) -> Scene:
    """No variable is set: what has no key of its own says so, and nothing is open."""
    shared = cast.with_variable("shared key", "WEBHOOK_API_KEY")
    internal = cast.with_variable("INTERNAL_API_KEY", "INTERNAL_API_KEY", "X-Internal-Api-Key")
    partner = with_key(cast.partner_key)
    yield Call(internal, JOBS, 503, "Internal API not configured", logged="unknown")
    for request in (f"GET {LINKS}", ANALYZE, f"GET {RECORDS}", AUTOMATION):
        yield Call(shared, request, 503, "API key not configured", logged="unknown")
    yield Call(shared, INGEST_TEST, 401, INVALID, logged="unknown")
    yield Call(NOBODY, INGEST_TEST, 401, MISSING)
    yield Call(partner, INGEST_TEST, 200, WORKS, logged="used")


def _link(slug: str) -> dict[str, str]:
    return {"slug": slug, "url": "https://example.com/demo"}
