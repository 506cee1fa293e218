"""A cache of its own for each test of releases: fixtures and what they are used with."""

from __future__ import annotations

from pathlib import Path

import pytest
from release_server import ADDRESS, Server

from esp_at_tools.catalog.release_lookup import find_release
from esp_at_tools.releases.cache import Slot, slot
from esp_at_tools.releases.store import Obtained, obtain

MINI = "ESP32C3/MINI-1"
OFFICIAL = "https://dl.espressif.com" + ADDRESS


@pytest.fixture(name="cache", autouse=True)
def cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache; neither proxies nor another server are in the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ESP_AT_RELEASE_SERVER"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ESP_AT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(name="place")
def place_fixture() -> Slot:
    """Where the recommended release of ESP32C3/MINI-1 goes."""
    return slot(find_release(MINI))


def fetch(server: Server, **options: object) -> Obtained:
    """Obtain that release from a server."""
    return obtain(find_release(MINI), server=server.url, **options)


def left(place: Slot) -> set[str]:
    """Return what is in the release's folder, less what is always there."""
    return {path.name.removeprefix(place.path.name) for path in place.path.parent.iterdir()} - {".lock"}
