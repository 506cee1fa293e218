"""Official releases in the cache: downloaded once, checked whenever they are used."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.catalog.release_lookup import find_release
from esp_at_tools.catalog.releases import Release
from esp_at_tools.errors import EspAtError, InputError
from esp_at_tools.releases.cache import CACHE_VARIABLE, Progress, Slot, slot

SERVER_VARIABLE = "ESP_AT_RELEASE_SERVER"
"""The environment variable that names a mirror."""

_SERVER = re.compile(r"https?://[^/?#\s]+(?P<path>(/[^?#\s]*)?)", re.IGNORECASE)
_SCHEME_AND_HOST = re.compile(r"https?://[^/]+", re.IGNORECASE)
_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    IndexError,
)
"""What zipfile raises for archives that are not as they should be."""


@dataclass(frozen=True)
class Obtained:
    """A release that is in the cache.

    Attributes:
        release: which.
        path: its ``.zip``.
        address: where it is downloaded from.
        size: bytes.
        sha256: its SHA-256 in hexadecimal.
        cached: it was there already.
    """

    release: Release
    path: Path
    address: str
    size: int
    sha256: str
    cached: bool


def release_file(
    name: str,
    version: str,
    *,
    module_folder: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the ``.zip`` of an official release, which is downloaded if it is not in the cache.

    Args:
        name: the module: ``ESP32C3/MINI-1``.
        version: ``v3.3.0.0``, ``latest``, ``recommended``; ``""`` for the recommended or else the latest one.
        module_folder: a user's own folder of definitions.
        offline: take it from the cache or not at all.
        progress: told how far the download is.

    Raises:
        InputError: there is no such release, it cannot be had, or it is not what it was; the hint says which
            file to download by hand, and where to put it.
    """
    release = find_release(name, version, module_folder=module_folder)
    return obtain(release, offline=offline, progress=progress).path


def obtain(
    release: Release, *, server: str = "", offline: bool = False, progress: Progress | None = None
) -> Obtained:
    """Return a release that is in the cache and has been checked; it is downloaded if need be.

    Args:
        release: which.
        server: a mirror, ``https://host``, instead of the catalogue's; ``ESP_AT_RELEASE_SERVER`` if ``""``.
        offline: take it from the cache or not at all.
        progress: told how far the download is.

    Raises:
        InputError: as for :func:`release_file`.
    """
    place = slot(release)
    address = address_at(release, server)
    cached = os.path.lexists(place.path)
    if not cached:
        place.make_folder()
        if offline:
            raise InputError(f"{place.path}: is not there", _by_hand(release, place))
        cached = _download(release, address, place, progress)
    sha256 = _checked(place, release)
    return Obtained(release, place.path, address, place.path.stat().st_size, sha256, cached)


def address_at(release: Release, server: str = "") -> str:
    """Return where a release is downloaded from.

    Args:
        release: which.
        server: a mirror; if ``""``, what ``ESP_AT_RELEASE_SERVER`` says, else where the catalogue says.

    Raises:
        InputError: the mirror is none.
    """
    server = server or os.environ.get(SERVER_VARIABLE, "")
    if not server:
        return release.address
    match = _SERVER.fullmatch(server)
    if match is None:
        raise InputError(f"{server[:200]!r}: is no server", "give it as https://host or https://host/folder")
    return server.rstrip("/") + _SCHEME_AND_HOST.sub("", release.address, count=1)


def _download(release: Release, address: str, place: Slot, progress: Progress | None) -> bool:
    """Bring the file to its place; tell whether another process has done so meanwhile."""
    from esp_at_tools.releases.download import DownloadError

    try:
        with place.locked():
            if os.path.lexists(place.path):
                return True
            _fill_part(address, place, progress)
            _check_unchanged(address, place)
            place.part.replace(place.path)
            files.sync_folder(place.path.parent)
            place.discard_part()
    except DownloadError as error:
        raise InputError(f"{address}: cannot be downloaded: {error}", _by_hand(release, place)) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or place.path}: cannot be written: {error.strerror or error}",
            f"make room, or set {CACHE_VARIABLE} to another folder",
        ) from error
    return False


def _fill_part(address: str, place: Slot, progress: Progress | None) -> None:
    """Download a sound archive into the ``.part``."""
    from esp_at_tools.releases.download import DownloadError, download

    continued = place.part.exists()
    download(address, place, progress)
    if continued and _fault(place.part):  # pieces of two files
        place.discard_part()
        download(address, place, progress)
    if fault := _fault(place.part):
        place.discard_part()
        raise DownloadError(f"what comes is no sound release: {fault}")


def _by_hand(release: Release, place: Slot) -> str:
    return f"download {release.address} by hand, put it at {place.path}, and run this again"


def _check_unchanged(address: str, place: Slot) -> None:
    """Compare what was downloaded with what was downloaded the first time."""
    recorded = place.recorded()
    sha256 = _sha256(place.part)
    if recorded and sha256 != recorded:
        place.discard_part()
        raise InputError(
            f"{address}: has changed on the server: its SHA-256 was {recorded}, and is now {sha256}",
            f"find out why; to take the new file, delete {place.record} and run this again",
        )


def _checked(place: Slot, release: Release) -> str:
    """Return the SHA-256 of the file, which is what it was, or is new and a sound archive for that chip."""
    path = place.path
    if not path.is_file():
        raise InputError(f"{path}: is not a file", "remove it, and run this again")
    recorded = place.recorded()
    sha256 = _sha256(path)
    if recorded == sha256:
        return sha256
    if recorded:
        raise InputError(
            f"{path}: has changed since it was first there: its SHA-256 was {recorded}, and is now {sha256}",
            f"delete it, so that it is downloaded again, or delete {place.record} to take it as it is",
        )
    if fault := _fault(path):
        raise InputError(
            f"{path}: is no sound release: {fault}", "delete it, and run this again, or download it once more"
        )
    if other := _other_chip(path, release):
        raise InputError(
            f"{path}: is a firmware for {other}, and not {release.full_name} {release.version}",
            "delete it, and run this again, so that it is downloaded",
        )
    place.remember(sha256)
    return sha256


def _other_chip(path: Path, release: Release) -> str:
    """Return the chip that a release is for if it is not the one it should be for."""
    from esp_at_tools.catalog.chips import chip
    from esp_at_tools.firmware.firmware import Firmware

    try:
        found = Firmware.open(path).chip_name
    except EspAtError:  # whoever uses it is told what is wrong with it
        return ""
    wanted = chip(release.platform.removeprefix("PLATFORM_")).name
    return chip(found).title if found and found != wanted else ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise files.unreadable(path, error, ".zip") from error
    return digest.hexdigest()


def _fault(path: Path) -> str:
    """Return what is wrong with a ``.zip``, ``""`` if names, sizes and the CRC of every file are right.

    Raises:
        InputError: it cannot be read.
    """
    from esp_at_tools.firmware.zip_tree import ZipTree

    try:
        names = ZipTree(path).names()
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise files.unreadable(path, error, ".zip") from error
    except _DAMAGE as error:
        return f"is a damaged .zip: {error}"
    except EspAtError as error:
        return error.message.removeprefix(f"{path}: ")
    if damaged is not None:
        return f"{damaged} is damaged"
    return "" if names else "is empty"
