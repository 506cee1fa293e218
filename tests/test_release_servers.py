"""Servers, networks and processes that do not do as they should: what is used is what was meant."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import Request

import builders
import pytest
from release_cache import MINI, OFFICIAL, fetch, left
from release_cache import cache_fixture as _cache  # noqa: F401 - a fixture
from release_cache import place_fixture as _place  # noqa: F401 - a fixture
from release_server import ADDRESS, archive, serving

from esp_at_tools.catalog.release_lookup import find_release
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.releases import download
from esp_at_tools.releases.store import obtain

# --- servers that do not do as they should ---------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"etag": "", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}])
def test_a_download_that_breaks_off_is_continued(options):
    with serving(cut=15_000, **options) as server:
        assert fetch(server).path.read_bytes() == archive()
    validator = options.get("date", '"one"')
    assert server.ranges_seen() == [None, "bytes=15000-", "bytes=30000-"]
    assert [each[2] for each in server.seen] == [None, validator, validator]


def test_a_later_run_continues(place):
    with serving(cut=2_000) as server:
        with pytest.raises(
            InputError, match=f"the connection ended after 8000 of {len(archive())} bytes"
        ) as caught:
            fetch(server)
        assert OFFICIAL in caught.value.hint
        assert left(place) == {".part", ".part.json"}
        server.cut = 0
        assert fetch(server).path.read_bytes() == archive()
    assert server.ranges_seen()[-1] == "bytes=8000-"
    assert left(place) == {"", ".sha256"}


def test_what_came_from_another_server_is_not_continued():
    with serving(cut=2_000) as one, serving(files={ADDRESS: archive(seed=2)}) as other:
        with pytest.raises(InputError):
            fetch(one)
        assert fetch(other).path.read_bytes() == archive(seed=2)
    assert other.ranges_seen() == [None]


def test_a_complete_part_is_not_downloaded_again(place):
    """A run that was killed after the last byte."""
    with serving(cut=2_000) as server:
        with pytest.raises(InputError):
            fetch(server)
        place.part.write_bytes(archive())
        count = len(server.seen)
        assert fetch(server).path.read_bytes() == archive()
        assert len(server.seen) == count


@pytest.mark.parametrize("options", [{"ranges": False}, {"etag": 'W/"weak"'}, {"etag": ""}])
def test_a_server_that_knows_no_ranges_or_no_versions(options):
    """It is asked for the whole file again, once; then the user is."""
    with serving(cut=15_000, cuts=2, **options) as server:
        with pytest.raises(InputError, match="ended after 15000 of"):
            fetch(server)
        assert len(server.seen) == 2
        assert fetch(server).path.read_bytes() == archive()
    asked = "bytes=15000-" if "ranges" in options else None
    assert server.ranges_seen() == [None, asked, asked]


def test_the_file_changes_between_two_attempts():
    with serving(cut=2_000) as server:
        with pytest.raises(InputError):
            fetch(server)
        server.cut, server.etag, server.files[ADDRESS] = 0, '"two"', archive(seed=2)
        assert fetch(server).path.read_bytes() == archive(seed=2)
    assert server.seen[-1][1:] == ("bytes=8000-", '"one"')


@pytest.mark.parametrize(
    ("etag", "requests"),
    [('"two"', ["bytes=8000-", None]), ("", ["bytes=8000-", None]), ('"one"', ["bytes=8000-", None])],
)
def test_a_server_that_continues_with_another_file(etag, requests):
    """With a new ETag, with none, or with the old one: then the archive is unsound."""
    with serving(cut=2_000) as server:
        with pytest.raises(InputError):
            fetch(server)
        server.cut, server.etag, server.checks_if_range = 0, etag, False
        server.files[ADDRESS] = archive(seed=2)
        done = len(server.seen)
        assert fetch(server).path.read_bytes() == archive(seed=2)
    assert server.ranges_seen()[done:] == requests


def test_the_file_gets_shorter_between_two_attempts():
    with serving(cut=2_000) as server:
        with pytest.raises(InputError):
            fetch(server)
        server.cut, server.checks_if_range, server.files[ADDRESS] = 0, False, archive(5_000)
        assert fetch(server).path.read_bytes() == archive(5_000)


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b"[" * 10_000, b'{"address": 1, "size": "x"}', b"\xff"])
def test_a_state_that_is_none(place, state):
    place.make_folder()
    place.part.write_bytes(b"x" * 1000)
    place.state.write_bytes(state)
    with serving() as server:
        assert fetch(server).path.read_bytes() == archive()
    assert server.ranges_seen() == [None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lie": 1000, "ranges": False}, "the connection ended after"),
        ({"lie": -1000}, "what comes is no sound release: is a damaged"),
        ({"lie": 300 << 20}, "are no release"),
        ({"files": {ADDRESS: b"<html>Log in to this network"}}, "what comes is no sound release"),
        ({"files": {ADDRESS: b""}}, "what comes is no sound release"),
        ({"files": {}}, "the server does not have it (404)"),
        ({"status": 403}, "the server refuses it (403)"),
        ({"status": 407}, "the proxy wants a login (407)"),
        ({"status": 500}, "the server answers 500 Internal Server Error"),
        ({"status": 204}, "the server answers 204"),
        ({"status": 302, "location": "ftp://127.0.0.1/x"}, "points to ftp://127.0.0.1/x, which is not https"),
        (
            {"status": 302, "location": "file:///etc/passwd"},
            "Redirection to url 'file:///etc/passwd' is not allowed",
        ),
        ({"status": 302, "location": ADDRESS}, "the server answers 302"),
    ],
)
def test_answers_that_are_no_release(place, options, message):
    with serving(**options) as server, pytest.raises(InputError) as caught:
        fetch(server)
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{server.url}{ADDRESS}: cannot be downloaded")
    assert caught.value.hint == f"download {OFFICIAL} by hand, put it at {place.path}, and run this again"
    assert not place.path.exists()
    assert not place.record.exists()


def test_no_content_length():
    with serving(lie=None) as server:
        assert fetch(server).path.read_bytes() == archive()


def test_a_redirection_is_followed():
    with serving() as server, serving(status=302, location=server.url + ADDRESS) as first:
        assert fetch(first).path.read_bytes() == archive()


def test_no_redirection_from_https_to_http():
    handler = download._Redirects()
    request = Request("https://dl.espressif.com/x.zip")
    with pytest.raises(download.DownloadError, match="not https"):
        handler.redirect_request(request, io.BytesIO(), 302, "", {}, "http://dl.espressif.com/x.zip")
    assert handler.redirect_request(request, io.BytesIO(), 302, "", {}, "https://cdn.example/x.zip")


def test_a_body_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(download, "MAX_SIZE", 20_000)
    with serving(lie=None) as server, pytest.raises(InputError, match="over 20000 bytes came"):
        fetch(server)


def test_a_proxy_of_the_environment(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("http_proxy", server.url)
        obtained = obtain(find_release(MINI), server="http://releases.example")
    assert obtained.path.read_bytes() == archive()
    assert server.seen[0][0] == "http://releases.example" + ADDRESS


# --- no connection ---------------------------------------------------------------------------------------


def reason(server: str) -> str:
    with pytest.raises(InputError) as caught:
        obtain(find_release(MINI), server=server)
    assert "by hand" in caught.value.hint
    return caught.value.message.partition("cannot be downloaded: ")[2]


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert reason(f"http://127.0.0.1:{taken.getsockname()[1]}") == (
            "no connection to 127.0.0.1: Connection refused"
        )


def test_no_such_server(monkeypatch):
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    assert reason("https://releases.example") == "releases.example is not found: no network, or a wrong name"


def test_a_silent_server(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert reason(f"http://127.0.0.1:{silent.getsockname()[1]}") == "127.0.0.1 is silent for 0.2 seconds"


def test_a_server_that_falls_silent(monkeypatch):
    with serving(pause=0.05) as server:
        monkeypatch.setattr(download, "TIMEOUT", 0.02)
        assert "silent for 0.02 seconds" in reason(server.url)


def test_a_server_that_speaks_something_else():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 ftp ready\r\n" if connection else b"")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        assert "does not speak HTTP" in reason(f"http://{url}")
        assert "no secure connection" in reason(f"https://{url}")
        thread.join()


def test_a_certificate_that_nobody_knows(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(builders.certificate())
    key.write_bytes(builders.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    httpd = Quiet(("127.0.0.1", 0), BaseHTTPRequestHandler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.handle_request, daemon=True)
    thread.start()
    try:
        assert "the certificate of 127.0.0.1 cannot be trusted" in reason(
            f"https://127.0.0.1:{httpd.server_port}"
        )
    finally:
        thread.join()
        httpd.server_close()


# --- other processes, and the end of this one ------------------------------------------------------------


def fetching(server, tmp_path: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "esp_at_tools", "fetch", MINI, "--server", server.url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, **options,
    )  # fmt: skip


def test_several_processes_at_once_download_once(tmp_path, place):
    with serving(pause=0.02) as server:
        runs = [fetching(server, tmp_path) for _ in range(3)]
        outputs = [run.communicate(timeout=30) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert {out for out, _ in outputs} == {f"{place.path}\n"}
    assert len(server.seen) == 1
    assert left(place) == {"", ".sha256"}


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_leaves_what_the_next_one_mends(tmp_path, place):
    with serving(pause=0.03) as server:
        for size in (1, 12_000, 30_000):
            run = fetching(server, tmp_path)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and run.poll() is None:
                with contextlib.suppress(OSError):
                    if place.part.stat().st_size >= size:
                        break
                time.sleep(0.002)
            run.send_signal(signal.SIGKILL)
            run.communicate()
            assert not place.path.exists()
        server.pause = 0
        assert fetch(server).path.read_bytes() == archive()
    assert left(place) == {"", ".sha256"}
    assert sum(asked is not None for asked in server.ranges_seen()) >= 2


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file sizes")
def test_a_full_disk(tmp_path):
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with serving() as server:
        run = fetching(server, tmp_path, preexec_fn=limit)
        out, err = run.communicate(timeout=30)
        assert (run.returncode, out) == (2, "")
        assert ".part: cannot be written" in err
        assert "ESP_AT_CACHE" in err
        assert fetch(server).path.read_bytes() == archive()


def test_every_error_is_one_of_ours(place):
    """Whatever stands where the cache has its files."""
    with serving() as server:
        for path in (place.part, place.state, place.lock, place.record):
            place.make_folder()
            path.unlink(missing_ok=True)
            path.mkdir()
            with contextlib.suppress(EspAtError):
                fetch(server)
            path.rmdir()
            with contextlib.suppress(FileNotFoundError):
                place.path.unlink()
        assert fetch(server).path.read_bytes() == archive()
