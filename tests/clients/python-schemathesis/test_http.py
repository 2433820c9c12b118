"""The HTTP surface of a running node: what its OpenAPI document promises, and what it does with what no document describes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import pytest
import requests

from chronik_pytest import Chronik


def test_answers_are_as_described(bootstrap):
    command = [os.path.join(os.path.dirname(sys.executable), "st"), "run", f"http://{bootstrap}/v1/openapi.json"]
    done = subprocess.run(
        # A query has a grammar of its own, and a body may name fields that are not known: such requests fit the document and are refused with 400 all the
        # same. Pairs of lines (_msearch) are nothing that the tool can make.
        [*command, "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--exclude-path", "/v1/es/_msearch", "--max-examples", "60", "--seed", "1", "--request-timeout", "30", "--no-color"],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=tempfile.gettempdir(),
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]


def test_every_route_is_described(bootstrap):
    index = requests.get(f"http://{bootstrap}/", timeout=30).json()
    paths = requests.get(f"http://{bootstrap}/v1/openapi.json", timeout=30).json()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(index["routes"]) == described


def refused(response, status, code):
    assert response.status_code == status, response.text
    error = response.json()
    assert error["code"] == code and error["message"], error


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9092", "127.0.0.1.evil.example", "x@localhost.evil.example"])
def test_names_of_others_are_refused(bootstrap, host):
    response = requests.get(f"http://{bootstrap}/v1/cluster/status", headers={"Host": host}, timeout=30)
    refused(response, 421, "unknown_host")


def test_own_names_are_served(bootstrap):
    port = bootstrap.rsplit(":", 1)[1]
    for host in ["localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:1", socket.gethostname()]:
        assert requests.get(f"http://{bootstrap}/health/live", headers={"Host": host}, timeout=30).ok, host


def test_pages_of_others_may_do_nothing(bootstrap):
    url, origin = f"http://{bootstrap}/v1/cluster/promote", {"Origin": "https://evil.example"}
    refused(requests.post(url, json={}, headers=origin, timeout=30), 403, "origin_refused")
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    refused(requests.options(url, headers=preflight, timeout=30), 403, "origin_refused")
    read = requests.get(f"http://{bootstrap}/v1/cluster/status", headers=origin, timeout=30)
    assert read.ok and "access-control-allow-origin" not in read.headers
    # A page of the node's own, or none at all.
    assert requests.post(url, json={}, headers={"Origin": f"http://{bootstrap}"}, timeout=30).status_code != 403


def test_pages_that_are_named_may():
    broker = Chronik(os.environ["BROKER"], flags=["--http-cors-origins", "https://console.example"])
    try:
        url, origin = f"http://{broker.bootstrap}/v1/cluster/status", {"Origin": "https://console.example"}
        assert requests.get(url, headers=origin, timeout=30).headers["access-control-allow-origin"] == origin["Origin"]
        asked = {**origin, "Access-Control-Request-Method": "POST"}
        preflight = requests.options(url, headers=asked, timeout=30)
        assert preflight.status_code == 204 and "POST" in preflight.headers["access-control-allow-methods"]
    finally:
        broker.close()


def test_what_is_too_large_is_refused(bootstrap):
    url = f"http://{bootstrap}/v1/cluster/promote"
    refused(requests.get(f"http://{bootstrap}/v1/cluster/lag?topic={'x' * 20_000}", timeout=30), 414, "url_too_long")
    json_type = {"content-type": "application/json"}
    refused(requests.post(url, data=b" " * 70_000, headers=json_type, timeout=30), 413, "body_too_large")
    # Of a body in chunks nobody knows the length before it is there.
    chunks = (b" " * 1_000 for _ in range(70))
    refused(requests.post(url, data=chunks, headers=json_type, timeout=30), 413, "body_too_large")
    headers = requests.get(f"http://{bootstrap}/", headers={"X-Long": "x" * 100_000}, timeout=30)
    assert headers.status_code == 431


def test_headers_that_do_not_arrive_are_given_up(bootstrap):
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 50:
                connection.sendall(b"X-A: b\r\n")
                connection.settimeout(1)
                try:
                    if not connection.recv(1_000):
                        return
                except TimeoutError:
                    pass
        except (ConnectionError, BrokenPipeError):
            return
    pytest.fail("the node still waits for headers after 50 s")


def test_bodies_that_do_not_arrive_are_given_up():
    broker = Chronik(os.environ["BROKER"], flags=["--http-request-timeout-ms", "500"])
    host, port = broker.bootstrap.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            head = b"POST /v1/cluster/promote HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
            connection.sendall(head)
            answer = connection.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 503 ") and b'"timed_out"' in answer, answer
    finally:
        broker.close()


@pytest.mark.parametrize(
    ("listen", "flags", "allowed"),
    [
        ("127.0.0.1:0", [], True),
        ("127.0.0.1:0", ["--http-writes", "off"], False),
        ("0.0.0.0:0", [], False),
        ("0.0.0.0:0", ["--http-writes", "on"], True),
    ],
)
def test_state_is_changed_where_that_is_allowed(listen, flags, allowed):
    broker = Chronik(os.environ["BROKER"], listen=listen, flags=flags)
    try:
        url = f"http://127.0.0.1:{broker.bootstrap.rsplit(':', 1)[1]}"
        answer = requests.post(f"{url}/v1/cluster/promote", json={}, timeout=30)
        if allowed:
            # It is its only voter already.
            refused(answer, 409, "not_promoted")
        else:
            refused(answer, 403, "writes_off")
        assert requests.get(f"{url}/v1/cluster/status", timeout=30).ok
    finally:
        broker.close()


def test_connections_are_limited():
    broker = Chronik(os.environ["BROKER"], flags=["--http-max-connections", "1"])
    host, port = broker.bootstrap.rsplit(":", 1)
    try:
        with requests.Session() as session:
            assert session.get(f"http://{broker.bootstrap}/health/live", timeout=30).ok
            refused(requests.get(f"http://{broker.bootstrap}/health/live", timeout=30), 503, "too_many_connections")
        deadline = time.monotonic() + 30
        while not requests.get(f"http://{broker.bootstrap}/health/live", timeout=30).ok:
            assert time.monotonic() < deadline
    finally:
        broker.close()


def test_the_document_is_json_of_the_right_version(bootstrap):
    document = json.loads(requests.get(f"http://{bootstrap}/v1/openapi.json", timeout=30).text)
    assert document["openapi"] == "3.1.0" and document["info"]["title"] == "Chronik"
