from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdrobust.errors import UsageError
from kdrobust.htmlreport import ReportServer, signature
from tests.htmlreport.runs import training

STATE = {"signature": "1", "page": "<p>first</p>"}


@pytest.fixture
def server() -> Iterator[ReportServer]:
    state = dict(STATE)
    made = ReportServer(make=lambda: state["page"], signature=lambda: state["signature"])
    made.state = state  # type: ignore[attr-defined]
    made.refresh()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(5)


def ask(
    server: ReportServer, path: str = "/", *, method: str = "GET", hosts: list[str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.putrequest(method, path, skip_host=True)
    for host in hosts if hosts is not None else [f"127.0.0.1:{server.server_port}"]:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


@pytest.mark.parametrize("path", ["/", "/report.html", "/?now"])
def test_the_page_and_its_headers(server: ReportServer, path: str) -> None:
    status, body, headers = ask(server, path)
    assert (status, body) == (200, b"<p>first</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_it_listens_on_this_machine_alone(server: ReportServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize(
    "hosts",
    [[], ["evil.example"], ["evil.example:{port}"], ["127.0.0.1"], ["127.0.0.1:1"], ["127.0.0.1:{port}", "evil"]],
)
def test_another_host_gets_nothing(server: ReportServer, hosts: list[str]) -> None:
    for method in ("GET", "HEAD"):
        status, body, headers = ask(
            server, method=method, hosts=[host.format(port=server.server_port) for host in hosts]
        )
        assert status == 403
        assert b"first" not in body
        assert "ETag" not in headers


def test_localhost_is_this_machine_too(server: ReportServer) -> None:
    assert ask(server, hosts=[f"localhost:{server.server_port}"])[0] == 200


@pytest.mark.parametrize("path", ["/result.json", "/../etc/passwd", "/report.html/", "/%2e%2e/", "/0/best.ckpt"])
def test_only_its_file_is_there(server: ReportServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert (status, b"first" in body) == (404, False)


def test_other_methods_are_refused(server: ReportServer) -> None:
    assert ask(server, method="POST")[0] == 501


def test_a_change_makes_the_page_again_with_a_new_tag(server: ReportServer) -> None:
    _, body, before = ask(server, method="HEAD")
    assert body == b""
    assert not server.refresh()
    server.state |= {"signature": "2", "page": "<p>second</p>"}  # type: ignore[attr-defined]
    assert server.refresh()
    _, body, after = ask(server)
    assert body == b"<p>second</p>"
    assert before["ETag"] != after["ETag"]


def test_a_failure_keeps_the_old_page_and_is_told(server: ReportServer) -> None:
    said: list[str] = []
    stop = threading.Event()
    server.state["signature"] = "2"  # type: ignore[attr-defined]
    del server.state["page"]  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.watch, args=(stop,), kwargs={"seconds": 0.01, "tell": said.append})
    thread.start()
    end = time.monotonic() + 5
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert said[0].startswith("the page could not be made again")
    assert ask(server)[1] == b"<p>first</p>"


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: cannot be used"):
            ReportServer(make=str, signature=str, port=port)


def test_the_signature_follows_what_the_page_is_made_from(tmp_path: Path) -> None:
    training(tmp_path / "a")
    first = signature([tmp_path])
    (tmp_path / "a" / "best.ckpt").write_bytes(b"x")
    (tmp_path / "report.html").write_text("x")
    assert signature([tmp_path]) == first
    seen = {first}
    for name in ("metrics.csv", "result.json", "status.json"):
        path = tmp_path / "a" / name
        path.write_text(path.read_text() + " ")
        seen.add(signature([tmp_path]))
    training(tmp_path / "b")
    seen.add(signature([tmp_path]))
    assert len(seen) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    training(tmp_path / "a", name="the_first_run")
    command = [sys.executable, "-m", "kdrobust", "report", "--watch", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            port = int(address.rsplit(":", 1)[1].strip("/"))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/")
            page = connection.getresponse().read()
            assert b"the_first_run" in page
            assert b'data-live="yes"' in page
            connection.close()
            training(tmp_path / "b", name="the_second_run")
            assert "made again" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert not (tmp_path / "report.html").exists()
        finally:
            process.kill()


def test_a_reader_that_leaves_in_the_middle_of_the_page_is_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    page = "x" * 20_000_000
    server = ReportServer(make=lambda: page, signature=lambda: "1")
    server.refresh()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            client.recv(100)
    assert ask(server)[0] == 200
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert capfd.readouterr().err == ""


def test_another_fault_is_one_line(server: ReportServer, monkeypatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(server, "current", lambda: 1 / 0)
    with pytest.raises(http.client.HTTPException):
        ask(server)
    assert capfd.readouterr().err == "the page could not be sent: ZeroDivisionError: division by zero\n"
