"""The page while runs go on: on this machine alone, one file, made anew when a run writes something."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kdrobust.errors import UsageError
from kdrobust.htmlreport.page import FILE
from kdrobust.htmlreport.reading import WATCHED

HOST = "127.0.0.1"
_PATHS = ("/", f"/{FILE}")


def signature(folders: Sequence[str | Path]) -> str:
    """A hash of name, size and time of every file that the page is made from; pictures come with their result."""
    digest = hashlib.sha256()
    for folder in folders:
        for place, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(set(files) & set(WATCHED)):
                path = os.path.join(place, name)
                try:
                    status = os.stat(path)
                except OSError:
                    # replaced between the listing and now; the next look sees it
                    continue
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class ReportServer(ThreadingHTTPServer):
    """Serves one page on 127.0.0.1.

    A request is answered only if its `Host` is this server's address: a page of another site, whose name was bent to
    127.0.0.1, gets nothing. Only the page itself is there, under `/` and `/report.html`.

    Args:
        make: the page, as HTML.
        signature: changes when the page should be made again; asked by `refresh`.
        port: 0: any free one.

    Raises:
        UsageError: the port is taken or not allowed.
    """

    daemon_threads = True

    def __init__(self, *, make: Callable[[], str], signature: Callable[[], str], port: int = 0) -> None:
        self._make, self._signature = make, signature
        self._seen, self._page, self._tag = "", b"", ""
        self._busy = threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"--port {port}: cannot be used ({error.strerror}); choose another, or none for a free one"
            ) from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that leaves in the middle of an answer is no fault; anything else is printed in one line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            print(f"the page could not be sent: {type(error).__name__}: {error}", file=sys.stderr)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The values of `Host` that are answered."""
        return (f"{HOST}:{self.server_port}", f"localhost:{self.server_port}")

    def refresh(self) -> bool:
        """Make the page again if something changed; whether it did."""
        with self._busy:
            now = self._signature()
            if now == self._seen and self._page:
                return False
            page = self._make().encode("utf-8")
            self._seen, self._page, self._tag = now, page, f'"{now[:32]}"'
            return True

    def current(self) -> tuple[bytes, str]:
        """The page and its tag."""
        return self._page, self._tag

    def watch(self, stop: threading.Event, *, seconds: float = 1.0, tell: Callable[[str], Any] = print) -> None:
        """Refresh until `stop` is set; a failure is told and the old page stays."""
        while not stop.wait(seconds):
            try:
                if self.refresh():
                    tell("the page was made again")
            except Exception as error:
                tell(f"the page could not be made again: {error}")


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version, sys_version = "kdrobust", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            self._refuse(HTTPStatus.FORBIDDEN, body=body)
        elif self.path.partition("?")[0] not in _PATHS:
            self._refuse(HTTPStatus.NOT_FOUND, body=body)
        else:
            page, tag = self.server.current()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", tag=tag, body=body)

    def _refuse(self, status: HTTPStatus, *, body: bool) -> None:
        self._send(status, f"{status.phrase}\n".encode(), "text/plain; charset=utf-8", tag="", body=body)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, *, tag: str, body: bool) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"ETag": tag} if tag else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page that asks every few seconds would fill the terminal."""
