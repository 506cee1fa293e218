"""A server for releases on 127.0.0.1 that can be slow, cut off, ignore ranges, lie and change its files."""

from __future__ import annotations

import contextlib
import io
import random
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ADDRESS = "/esp-at/firmwares/esp32c3/ESP32-C3-MINI-1-AT-V4.1.1.0.zip"
"""Where the recommended release of ESP32C3/MINI-1 is."""


def archive(size: int = 40_000, seed: int = 1) -> bytes:
    """Return a sound .zip that does not compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr(zipfile.ZipInfo("release/esp-at.bin"), random.Random(seed).randbytes(size))
    return buffer.getvalue()


@dataclass
class Server:
    """What the server has, and how it behaves.

    Attributes:
        files: path → contents.
        etag: sent with each answer, and compared with If-Range; ``""`` for none.
        date: sent as Last-Modified where there is no ETag.
        ranges: whether parts are sent.
        checks_if_range: whether a part is refused when the file has changed.
        cut: bytes of body after which the connection ends, 0 for never; ``cuts`` times.
        lie: added to the Content-Length; None for no Content-Length at all.
        status: sent instead of 200.
        location: where a redirection points.
        pause: seconds before each 4 KB.
        seen: one (path, Range, If-Range) for each request.
    """

    files: dict[str, bytes]
    etag: str = '"one"'
    date: str = ""
    ranges: bool = True
    checks_if_range: bool = True
    cut: int = 0
    cuts: int = 1_000_000
    lie: int | None = 0
    status: int = 200
    location: str = ""
    pause: float = 0.0
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def ranges_seen(self) -> list[str | None]:
        """Return the Range of each request."""
        return [asked for _, asked, _ in self.seen]


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path  # a proxy is asked for the whole address
            asked, validator = self.headers["Range"], self.headers["If-Range"]
            server.seen.append((self.path, asked, validator))
            data = server.files.get(path)
            status = server.status if data is not None or server.status != 200 else 404
            start = 0
            same = validator in (server.etag or None, server.date or None) or not server.checks_if_range
            if status == 200 and asked and server.ranges and same:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                status = 206 if start < len(data) else 416
            self.send_response(status)
            body = (data or b"")[start:] if status in (200, 206) else b""
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            elif server.date:
                self.send_header("Last-Modified", server.date)
            if server.location:
                self.send_header("Location", server.location)
            if server.lie is not None:
                self.send_header("Content-Length", str(len(body) + server.lie))
            self.end_headers()
            if server.cut and server.cuts > 0 and len(body) > server.cut:
                server.cuts -= 1
                body = body[: server.cut]
            with contextlib.suppress(OSError):
                for at in range(0, len(body), 4096):
                    time.sleep(server.pause)
                    self.wfile.write(body[at : at + 4096])

    return Handler


@contextlib.contextmanager
def serving(**options: object) -> Iterator[Server]:
    """Run a server that has the recommended release of ESP32C3/MINI-1, unless ``files`` says otherwise."""
    server = Server(**{"files": {ADDRESS: archive()}, **options})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
