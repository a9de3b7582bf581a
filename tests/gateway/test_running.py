"""What is run is the file of the manual: only its addresses are others."""

import re

import pytest

from example_project.gateway.running import BESIDE, COMMANDS, FOLDER, configured

ADDRESSES = {"listen": "10.0.0.1:1", "auth_service": "10.0.0.2:2", "guarded_service": "10.0.0.3:3"}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("nginx.conf", ["server 10.0.0.2:2;", "server 10.0.0.3:3;", "listen 10.0.0.1:1;"]),
        # A host there would be the only one that is answered.
        ("Caddyfile", ["forward_auth 10.0.0.2:2 {", ":1 {", "reverse_proxy 10.0.0.3:3 {"]),
        ("haproxy.cfg", ["bind 10.0.0.1:1", "server orders 10.0.0.3:3", "server auth_service 10.0.0.2:2"]),
        (
            "envoy.yaml",
            [
                f"address: {{ socket_address: {{ address: {host}, port_value: {port} }} }}"
                for host, port in (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3))
            ],
        ),
    ],
)
def test_a_configuration_is_run_as_it_is_but_for_its_addresses(configuration: str, expected: list[str]) -> None:
    before = (FOLDER / configuration).read_text().splitlines()
    after = configured("\n".join(before), **ADDRESSES).splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [re.sub(r"\s+#.*", "", line).strip(" \t-") for line in changed] == expected


def test_each_file_is_run_or_says_that_it_is_not() -> None:
    run = {*COMMANDS, *(name for names in BESIDE.values() for name in names)}
    files = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert {name for name in files if "NOT RUN" in (FOLDER / name).read_text()} == files - run
