"""Which requests are answered."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from musegen.studio.guard import Guard, allowed_hosts


def problem(**headers: str) -> str | None:
    hosts, any_address = allowed_hosts("127.0.0.1")
    guard = Guard(lambda *_: None, hosts, any_address)  # type: ignore[arg-type, return-value]
    return guard.problem(Headers({k.replace("_", "-"): v for k, v in headers.items()}))


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST:1"])
def test_the_own_page_is_answered(host: str) -> None:
    assert problem(host=host) is None
    assert problem(host=host, origin=f"http://{host}", sec_fetch_site="same-origin") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8000"},  # DNS rebinding
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"host": "192.168.1.5:8000"},
        {"host": "localhost:8000", "origin": "http://evil.example"},
        {"host": "localhost:8000", "origin": "http://localhost:9000"},
        {"host": "localhost:8000", "origin": "https://localhost:8000"},
        {"host": "localhost:8000", "origin": "null"},
        {"host": "localhost:8000", "sec_fetch_site": "cross-site"},
        {"host": "localhost:8000", "sec_fetch_site": "same-site"},
    ],
)
def test_others_are_refused(headers: dict[str, str]) -> None:
    assert (problem(**headers) or "").startswith("refused: ")  # type: ignore[arg-type]


def test_in_a_network_addresses_are_allowed_but_no_foreign_names() -> None:
    hosts, any_address = allowed_hosts("0.0.0.0")
    guard = Guard(lambda *_: None, hosts, any_address)  # type: ignore[arg-type, return-value]
    assert guard.problem(Headers({"host": "192.168.1.5:8000"})) is None
    assert guard.problem(Headers({"host": "evil.example:8000"})) is not None
