"""Downloading one file over HTTP: continued where it broke off, and never taken for more than it is."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from esp_at_tools import __version__, files
from esp_at_tools.errors import InputError
from esp_at_tools.releases.cache import CACHE_VARIABLE, Progress, Slot

TIMEOUT = 30.0
"""Seconds that the server may be silent."""
MAX_SIZE = 256 << 20
"""Bytes of the largest file that is taken; official releases have 2 to 30 MB."""

_ATTEMPTS = 4
_CHUNK = 64 << 10
_MAX_STATE = 16 << 10
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_OTHER_FILE = "the server has another file than before"
_OK = 200
_PARTIAL_CONTENT = 206
_NO_SUCH_RANGE = 416
_ANSWERS = {
    401: "the server wants a login (401)",
    403: "the server refuses it (403)",
    404: "the server does not have it (404)",
    407: "the proxy wants a login (407)",
    410: "the server does not have it any more (410)",
    429: "the server has had too many requests (429)",
}


class DownloadError(Exception):
    """The file cannot be had; the text says why."""


class _BrokenOffError(DownloadError):
    """A part has come, and the next attempt may bring the rest."""


def download(address: str, slot: Slot, progress: Progress | None = None) -> None:
    """Download a file into the slot's ``.part``, from where an earlier attempt broke off if that can be.

    Args:
        address: ``https://…``, or ``http://…`` where somebody asked for that.
        slot: where; it is locked by the caller.
        progress: told now and then.

    Raises:
        DownloadError: it cannot be had.
        InputError: it cannot be written.
    """
    for attempt in range(_ATTEMPTS):
        before = _size(slot)
        try:
            _transfer(address, slot, progress or (lambda _done, _total: None))
        except _BrokenOffError:
            if attempt + 1 == _ATTEMPTS or _size(slot) == before:
                raise
        else:
            return


def _size(slot: Slot) -> int:
    try:
        return slot.part.stat().st_size
    except OSError:
        return 0


def _transfer(address: str, slot: Slot, progress: Progress) -> None:
    state = _read_state(slot)
    have = _size(slot)
    is_known = bool(state) and state.get("address") == address
    size = state.get("size") if is_known else None
    if is_known and have and have == size:
        return
    validator = state.get("validator") if is_known else None
    headers = {"User-Agent": f"esp-at-tool/{__version__}", "Accept-Encoding": "identity"}
    if have and isinstance(validator, str) and (not isinstance(size, int) or have < size):
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with _opener(address).open(Request(address, headers=headers), timeout=TIMEOUT) as response:  # noqa: S310 - _opener has looked at the scheme
            _receive(response, address, slot, have if "Range" in headers else 0, progress)
    except HTTPError as error:
        with error:
            if error.code == _NO_SUCH_RANGE and "Range" in headers:
                slot.discard_part()
                raise _BrokenOffError(_OTHER_FILE) from error
            raise DownloadError(_answer(error)) from error
    except URLError as error:
        raise DownloadError(_no_connection(error.reason, address)) from error
    except OSError as error:
        raise DownloadError(_no_connection(error, address)) from error
    except (HTTPException, ValueError) as error:
        raise DownloadError(f"what answers does not speak HTTP: {_text(error)}") from error


def _receive(response: HTTPResponse, address: str, slot: Slot, have: int, progress: Progress) -> None:
    """Write what comes behind the ``have`` bytes that there are, or from the beginning."""
    if response.status == _PARTIAL_CONTENT and have:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            slot.discard_part()
            raise _BrokenOffError(_OTHER_FILE)
        total = int(match[2])
    elif response.status == _OK:
        have = 0
        length = response.headers.get("Content-Length") or ""
        total = int(length) if length.isascii() and length.isdigit() else 0
    else:
        raise DownloadError(f"the server answers {response.status} {response.reason}")
    if total > MAX_SIZE:
        raise DownloadError(f"{total} bytes are no release, which has at most {MAX_SIZE}")
    with _writing(slot), slot.part.open("ab" if have else "wb") as stream:
        if not have:
            _write_state(slot, address, response.headers, total)
        have = _copy(response, stream, have, total, progress)
        stream.flush()
        os.fsync(stream.fileno())
    if have < total:
        raise _BrokenOffError(f"the connection ended after {have} of {total} bytes")


def _copy(response: HTTPResponse, stream: IO[bytes], have: int, total: int, progress: Progress) -> int:
    """Write the body behind what there is, and return how many bytes there are then."""
    progress(have, total)
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (OSError, HTTPException) as error:
            of = f" of {total}" if total else ""
            reason = _no_connection(error, response.url)
            raise _BrokenOffError(f"the connection ended after {have}{of} bytes: {reason}") from error
        if not chunk:
            return have
        have += len(chunk)
        if have > MAX_SIZE:
            raise DownloadError(f"over {MAX_SIZE} bytes came, more than a release has")
        stream.write(chunk)
        stream.flush()  # what has come stays, even if this process is killed
        progress(have, total)


@contextlib.contextmanager
def _writing(slot: Slot) -> Iterator[None]:
    """Tell a disk that is full from a network that fails."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{slot.part}: cannot be written: {error.strerror or error}",
            f"make room, or set {CACHE_VARIABLE} to another folder",
        ) from error


# --- what has come so far, and where from ----------------------------------------------------------------


def _read_state(slot: Slot) -> Mapping[str, object]:
    try:
        state = json.loads(files.read_file(slot.state, limit=_MAX_STATE))
    except (InputError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(slot: Slot, address: str, headers: HTTPMessage, size: int) -> None:
    state = {"address": address, "validator": _validator(headers), "size": size}
    files.write_file(slot.state, json.dumps(state).encode())


def _validator(headers: HTTPMessage) -> str | None:
    """Return what tells one version of the file from another: a strong ETag, else the date."""
    tag = headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    return headers.get("Last-Modified") if not tag or tag.startswith("W/") else None


# --- the connection --------------------------------------------------------------------------------------


class _Redirects(HTTPRedirectHandler):
    """Follows a redirection to HTTPS, or from HTTP to HTTP, and to nothing else."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme.casefold()
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            fp.close()
            raise DownloadError(f"the server points to {newurl[:200]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: str) -> OpenerDirector:
    """Return what opens the address: certificates are checked, and proxies of the environment are used."""
    import ssl

    if urlsplit(address).scheme.casefold() not in ("http", "https"):
        raise DownloadError("the address is neither https nor http")
    return build_opener(_Redirects, HTTPSHandler(context=ssl.create_default_context()))


def _answer(error: HTTPError) -> str:
    return _ANSWERS.get(error.code, f"the server answers {error.code} {_text(error.reason)}".rstrip())


def _no_connection(error: object, address: str) -> str:
    import socket
    import ssl

    host = urlsplit(address).hostname or address
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection to {host}: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"{host} is not found: no network, or a wrong name"
    if isinstance(error, TimeoutError):
        return f"{host} is silent for {TIMEOUT:g} seconds"
    if isinstance(error, OSError):
        return f"no connection to {host}: {error.strerror or _text(error)}"
    return _text(error)


def _text(error: object) -> str:
    """Return what an error says, on one line of a bearable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
