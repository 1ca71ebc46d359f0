import hashlib
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from scripted import make_service
from starsmith.serving.app import create_app
from starsmith.serving.auth import LOOPBACK, MAX_BODY_BYTES, hosts_of
from starsmith.serving.clients import read_clients

pytestmark = pytest.mark.slow  # starts a server for each

PROTECTED = [
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/starsmith-tiny"),
    ("GET", "/v1/health"),
    ("POST", "/v1/events"),
    ("GET", "/v1beta/models"),
    ("GET", "/v1beta/server_setting"),
    ("GET", "/v1/starsmith/source"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic secret", "secret", "Bearer", "Bearer gehéim"])
def test_without_the_token_nothing_is_answered(method: str, path: str, header: str | None) -> None:
    client = TestClient(create_app(make_service(token="secret")))
    headers = {"Authorization": header.encode()} if header else {}

    response = client.request(method, path, headers=headers, content=b"not even json")

    error = response.json()["error"]
    assert response.status_code == 401
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


def test_with_the_token_requests_are_answered() -> None:
    client = TestClient(create_app(make_service(token="secret")))

    assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_each_client_of_a_file_of_tokens_is_let_in_beside_the_one_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    digest = hashlib.sha256(b"bobs").hexdigest()
    file.write_text(f'[alice]\ntoken = "geheimnis ä"\n[bob]\nsha256 = "{digest}"\n')
    client = TestClient(create_app(make_service(token="secret", clients=read_clients(file))))

    def status(token: str) -> int:
        return client.get("/v1/models", headers={"Authorization": f"Bearer {token}".encode()}).status_code

    assert [status(token) for token in ("secret", "geheimnis ä", "bobs")] == [200] * 3
    assert [status(token) for token in ("", "alice", "bob", digest)] == [401] * 4


@pytest.mark.parametrize("path", ["/health", "/", "/page/app.js"])
def test_liveness_and_the_page_itself_need_no_token(path: str) -> None:
    client = TestClient(create_app(make_service(token="secret")))

    assert client.get(path).status_code == 200


def test_every_route_of_the_protocols_is_protected() -> None:
    schema = TestClient(create_app(make_service())).get("/openapi.json").json()

    routes = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    covered = {(method, path.replace("starsmith-tiny", "{model_id}")) for method, path in PROTECTED}
    assert routes - covered == {("GET", "/health"), ("POST", "/v1/health")}


def test_without_a_token_a_local_server_answers_only_under_names_of_this_machine() -> None:
    app = create_app(make_service(), hosts=hosts_of("127.0.0.1", locked=False))

    for name in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
        assert TestClient(app).get("/health", headers={"Host": name}).status_code == 200
    refused = TestClient(app).get("/v1/models", headers={"Host": "rebound.example.com"})
    assert refused.status_code == 403
    assert "rebound.example.com" in refused.json()["error"]["message"]


def test_a_token_or_an_open_address_answers_under_any_name() -> None:
    assert hosts_of("127.0.0.1", locked=False) == LOOPBACK
    assert hosts_of("127.0.0.1", locked=True) is None
    assert hosts_of("0.0.0.0", locked=False) is None


def preflight(origin: str) -> dict[str, str]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return dict(TestClient(create_app(make_service())).options("/v1/completions", headers=headers).headers)


@pytest.mark.parametrize("origin", ["http://localhost:8888", "http://127.0.0.1:3000", "http://[::1]:1"])
def test_pages_of_this_machine_may_ask(origin: str) -> None:
    assert preflight(origin)["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://example.com", "http://localhost.example.com", "null"])
def test_pages_of_the_web_may_not(origin: str) -> None:
    assert "access-control-allow-origin" not in preflight(origin)


def test_a_body_beyond_the_bound_is_refused_with_and_without_its_length() -> None:
    client = TestClient(create_app(make_service()))
    large = json.dumps({"prompt": "x" * MAX_BODY_BYTES}).encode()
    headers = {"Content-Type": "application/json"}

    announced = client.post("/v1/completions", content=large, headers=headers)
    chunked = client.post("/v1/completions", content=iter([large[:100], large[100:]]), headers=headers)

    for response in (announced, chunked):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/nothing", "/page/app.js"])
def test_every_response_has_the_security_headers(path: str) -> None:
    headers = TestClient(create_app(make_service())).get(path).headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
