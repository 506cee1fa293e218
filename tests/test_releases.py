"""The catalogue of releases, and the cache: what is used is what was meant."""

from __future__ import annotations

import hashlib
import sys
import zipfile

import builders
import pytest
from release_cache import MINI, OFFICIAL, fetch, left
from release_cache import cache_fixture as _cache  # noqa: F401 - a fixture
from release_cache import place_fixture as _place  # noqa: F401 - a fixture
from release_server import ADDRESS, archive, serving

from esp_at_tools.catalog.data import data_folder
from esp_at_tools.catalog.release_lookup import find_release, find_releases
from esp_at_tools.catalog.releases import parse_reference, read_releases, releases
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.releases.cache import cache_folder, slot
from esp_at_tools.releases.store import address_at, release_file

# --- the catalogue ---------------------------------------------------------------------------------------


def test_every_release_has_a_place_of_its_own():
    assert len(releases()) == 72
    assert len({slot(each).path for each in releases()}) == 72
    assert all(each.file_name.endswith(".zip") for each in releases())


@pytest.mark.parametrize(
    "name", ["ESP32C3/MINI-1", "esp32c3/mini-1", "PLATFORM_ESP32C3/MINI-1", "ESP32-C3/MINI-1"]
)
@pytest.mark.parametrize("version", ["v3.3.0.0", "V3.3.0.0", "3.3.0.0"])
def test_names_and_versions_as_people_write_them(name, version):
    found = find_release(name, version)
    assert (found.full_name, found.version) == (MINI, "v3.3.0.0")


def test_latest_and_recommended():
    assert find_release(MINI).recommended
    assert find_release(MINI, "recommended").version == "v4.1.1.0"
    assert find_release("WROVER-32").version == find_release("WROVER-32", "latest").version == "v2.4.0.0"
    with pytest.raises(InputError, match="no release is recommended"):
        find_release("WROVER-32", "recommended")
    assert find_release("ESP32C2/ESP32C2-4MB-G2", "LATEST").version == "v4.1.1.0"


@pytest.mark.parametrize(
    ("name", "version", "message", "hint"),
    [
        ("ESP32C3/MINI-2", "", "not the name of a module", "ESP32C3/MINI-1"),
        ("MINI-1", "", "several modules", "ESP32/MINI-1 or ESP32C3/MINI-1"),
        ("ESP32C5/ESP32C5-4MB", "", "no release of it can be downloaded", "build it"),
        ("ESP32/ESP32-D2WD", "", "no release of it can be downloaded", "WROOM-32"),
        (MINI, "v3.3.0.1", "no release 'v3.3.0.1'", "did you mean v3.3.0.0?"),
        (MINI, "newest", "no release 'newest'", "v4.1.1.0, v4.1.0.0"),
        ("", "", "not the name", "modules list"),
    ],
)
def test_names_that_mean_nothing(name, version, message, hint):
    with pytest.raises(InputError, match=message) as caught:
        find_release(name, version)
    assert hint in caught.value.hint


def test_a_module_of_the_users_own_has_no_releases(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    table = (data_folder() / "factory_param_data.csv").read_text("utf-8").splitlines()
    row = next(line for line in table if line.startswith("PLATFORM_ESP32C3,MINI-1,"))
    (folder / "factory_param_data.csv").write_text(
        f"{table[0]}\n{row.replace('MINI-1', 'MY-BOARD', 1)}\n", "utf-8"
    )
    with pytest.raises(InputError, match="ESP32C3/MY-BOARD: no release of it") as caught:
        find_releases("ESP32C3/MY-BOARD", module_folder=folder)
    assert "MINI-1" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ESP32C3/MINI-1@v3.3.0.0", ("ESP32C3/MINI-1", "v3.3.0.0")),
        ("MINI-1@latest", ("MINI-1", "latest")),
        ("MINI-1@3.3", ("MINI-1", "3.3")),
        ("file.bin", None),
        ("me@host.bin", None),
        ("a@b@latest", None),
        ("@latest", None),
        ("folder@v1/file.bin", None),
    ],
)
def test_references(text, parsed):
    assert parse_reference(text) == parsed


@pytest.mark.parametrize(
    "address", ["https://host/x.exe", "http://host/x.zip", "https://host/..zip", "https://h/"]
)
def test_addresses_that_are_none(tmp_path, address):
    table = tmp_path / "releases.csv"
    table.write_text(f"platform,module_name,version,address,recommended\nP,M,v1.0.0.0,{address},\n")
    with pytest.raises(FormatError, match="line 2"):
        read_releases(table)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("", OFFICIAL),
        ("https://mirror", "https://mirror" + ADDRESS),
        ("http://mirror:81/espressif/", "http://mirror:81/espressif" + ADDRESS),
    ],
)
def test_mirrors(server, address):
    assert address_at(find_release(MINI), server) == address


@pytest.mark.parametrize(
    "server", ["mirror", "ftp://mirror", "https://", "file:///etc", "https://a b", "https://h?x"]
)
def test_mirrors_that_are_none(server):
    with pytest.raises(InputError, match="is no server"):
        address_at(find_release(MINI), server)


# --- the cache -------------------------------------------------------------------------------------------


def test_it_is_downloaded_once(cache, place):
    progress = []
    with serving() as server:
        first = fetch(server, progress=lambda done, total: progress.append((done, total)))
        second = fetch(server)
    assert first.path == place.path == cache / MINI / "v4.1.1.0" / "ESP32-C3-MINI-1-AT-V4.1.1.0.zip"
    assert first.path.read_bytes() == archive()
    assert (first.cached, second.cached) == (False, True)
    assert first.sha256 == second.sha256 == hashlib.sha256(archive()).hexdigest()
    assert place.record.read_text() == f"{first.sha256}  {place.path.name}\n"
    assert len(server.seen) == 1
    assert progress[0] == (0, len(archive()))
    assert progress[-1] == (len(archive()),) * 2
    assert left(place) == {"", ".sha256"}


def test_release_file_takes_the_mirror_from_the_environment(monkeypatch, place):
    with serving() as server:
        monkeypatch.setenv("ESP_AT_RELEASE_SERVER", server.url)
        assert release_file(MINI, "latest") == place.path
    assert release_file(MINI, "v4.1.1.0", offline=True) == place.path


def test_offline_says_what_to_do(place):
    with pytest.raises(InputError, match="is not there") as caught:
        release_file(MINI, "latest", offline=True)
    assert caught.value.hint == f"download {OFFICIAL} by hand, put it at {place.path}, and run this again"
    place.path.write_bytes(archive())
    assert release_file(MINI, "latest", offline=True) == place.path
    assert place.recorded() == hashlib.sha256(archive()).hexdigest()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip file"),
        (b"<html>", "not a zip file"),
        (archive()[:-30], "not a zip file"),
        (archive().replace(b"\x55", b"\x56"), "damaged"),
        (archive()[:100] + b"?" + archive()[101:], "release/esp-at.bin is damaged"),
    ],
)
def test_a_file_by_hand_is_checked(place, data, message):
    place.make_folder()
    place.path.write_bytes(data)
    with pytest.raises(InputError, match=f"(?i){message}"):
        release_file(MINI, "latest", offline=True)
    assert left(place) == {""}


def test_a_file_by_hand_for_another_chip(tmp_path):
    packed = builders.zipped(builders.release(tmp_path / "c3"), tmp_path / "c3.zip", "release/").read_bytes()
    for name, right in ((MINI, True), ("ESP32/WROOM-32", False)):
        there = slot(find_release(name, "latest"))
        there.make_folder()
        there.path.write_bytes(packed)
        if right:
            assert release_file(name, "latest", offline=True) == there.path
            continue
        with pytest.raises(InputError, match="is a firmware for ESP32-C3, and not ESP32/WROOM-32"):
            release_file(name, "latest", offline=True)
        assert not there.record.exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "C:evil", "a\\b"])
def test_archives_that_lead_out_of_themselves(place, name):
    place.make_folder()
    with zipfile.ZipFile(place.path, "w") as packed:
        info = zipfile.ZipInfo("x")
        info.filename = name
        packed.writestr(info, "x")
    with pytest.raises(InputError, match="no sound release"):
        release_file(MINI, "latest", offline=True)


def test_a_folder_in_its_place(place):
    place.path.mkdir(parents=True)
    with pytest.raises(InputError, match="is not a file"):
        release_file(MINI, "latest")


def test_a_file_that_changes_on_disk(place):
    with serving() as server:
        fetch(server)
        place.path.write_bytes(archive(seed=2))
        with pytest.raises(InputError, match="has changed since it was first there") as caught:
            fetch(server)
        assert str(place.record) in caught.value.hint
        place.path.unlink()
        assert fetch(server).path.read_bytes() == archive()


def test_a_file_that_changes_on_the_server(place):
    with serving() as server:
        fetch(server)
        place.path.unlink()
        server.files[ADDRESS] = archive(seed=2)
        with pytest.raises(InputError, match="has changed on the server") as caught:
            fetch(server)
        assert left(place) == {".sha256"}
        assert str(place.record) in caught.value.hint
        place.record.unlink()
        assert fetch(server).path.read_bytes() == archive(seed=2)


@pytest.mark.parametrize("text", ["", "nonsense", "0" * 64, "x" * 5000])
def test_a_record_that_is_none(place, text):
    with serving() as server:
        fetch(server)
        place.record.write_text(text)
        with pytest.raises(InputError, match=r"\.sha256"):
            fetch(server)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ESP_AT_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESP_AT_CACHE", "mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("ESP_AT_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "esp-at-tool"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "esp-at-tool"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "esp-at-tool"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "esp-at-tool" / "Cache"


def test_a_cache_that_cannot_be(cache):
    cache.write_text("a file")
    with serving() as server, pytest.raises(InputError, match="cannot be made") as caught:
        fetch(server)
    assert "ESP_AT_CACHE" in caught.value.hint
