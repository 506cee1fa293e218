"""``inspect --html``: one page, complete in itself, the same bytes each time, and nothing in it that acts."""

from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from pathlib import Path

import builders
import pytest

from esp_at_tools.cli.inspect_html import render
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.report import report

OFFICIAL = (
    "ESP32-C3-MINI-1-V2.3.0.0",
    "ESP32-C3-MINI-1-V5.0.1.0-assembled",
    "ESP32-WROOM-32-V2.2.0.0",
    "ESP8266-AT-V2.2.1.0",
)
VOID = {"meta", "rect", "br"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=a>\x1b[31m\u202e{{ 7*7 }}"


class Page(HTMLParser):
    """Every element, attribute and text of a page; an unbalanced tag is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@functools.cache
def official(path: Path) -> dict:
    return report(Firmware.open(path))


def page_of(path: Path) -> Page:
    return Page(render(report(Firmware.open(path))))


@pytest.mark.parametrize("name", OFFICIAL)
def test_everything_is_on_the_page(shared, name):
    document = official(shared / "firmware" / name)
    page = Page(render(document))
    wanted = [part["name"] for part in document["partitions"]]
    wanted += [*document["settings"], *(item["name"] for item in document["pki"])]
    wanted += [service["uuid"] for service in document["gatt_services"]]
    wanted += [check["message"] for check in document["checks"]]
    wanted += [
        document["apps"][0]["version"],
        document["input"]["sha256"],
        "19.5 dBm",
        "belongs to mqtt_cert",
    ]
    assert not [text for text in wanted if text not in page.text]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_page_needs_nothing_else(shared, name):
    text = render(official(shared / "firmware" / name))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n")
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base"})
    attributes = {attribute for _, found in page.elements for attribute in found}
    assert attributes.isdisjoint({"src", "href", "srcset", "action", "background", "style"})
    assert not [attribute for attribute in attributes if attribute.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", text)
    metas = page.named("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    policy = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_map_is_to_scale_and_explains_itself(shared):
    document = official(shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled")
    page = Page(render(document))
    (svg,) = page.named("svg")
    width, height = (float(number) for number in svg["viewbox"].split()[2:])
    bars = page.named("rect")
    for bar in bars:
        assert float(bar["x"]) >= 0
        assert float(bar["x"]) + float(bar["width"]) <= width
        assert float(bar["y"]) + float(bar["height"]) <= height
    apps = [bar for bar in bars if bar["class"] == "room app"]
    assert len({bar["height"] for bar in apps}) == 1
    assert float(apps[0]["height"]) > 100
    (filled,) = [bar for bar in bars if bar["class"] == "app"]
    assert float(filled["width"]) / float(apps[0]["width"]) == pytest.approx(0.79, abs=0.01)
    (home,) = [bar for bar in bars if bar["class"] == "home"]
    inside = [bar for bar in bars if bar["class"] in ("room at", "room files")]
    assert inside
    for bar in inside:
        assert float(home["y"]) < float(bar["y"])
        assert float(bar["y"]) + float(bar["height"]) < float(home["y"]) + float(home["height"])
    assert min(float(bar["height"]) for bar in bars) >= 18
    titles = [
        text for text in page.texts if text.startswith("ota_0: 0x60000 to 0x22ffff, 1856 KB, 1.43 MB used")
    ]
    assert len(titles) == 1


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(cli, tmp_path):
    pages = []
    for folder in ("one", "two/deeper"):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / "factory.bin").write_bytes(builders.image())
        assert cli("inspect", place / "factory.bin", "--html", place / "a.html").status == 0
        pages.append((place / "a.html").read_bytes())
    assert pages[0] == pages[1]
    assert str(tmp_path).encode() not in pages[0]
    assert b"factory.bin" in pages[0]


def test_texts_of_the_firmware_are_texts_on_the_page(tmp_path):
    path = tmp_path / "factory.bin"
    data = bytearray(builders.image())
    row = data.find(b"phy_init\0", 0x8000)
    data[row : row + 16] = b"</title><script>"
    path.write_bytes(data)
    firmware = Firmware.open(path)
    firmware.layout.nvs.set("factory_param", "module_name", "string", HOSTILE)
    firmware.layout.nvs.set("factory_param", "<i>'\"&amp;", "string", HOSTILE)
    firmware.layout.nvs.set("ble_data", "cfg0", "string", HOSTILE)
    firmware.set_pki("mqtt_cert", builders.certificate(1, name=HOSTILE[:60]))
    firmware.write(tmp_path / "hostile.bin")
    text = render(report(Firmware.open(tmp_path / "hostile.bin")))
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "i>"})
    assert HOSTILE.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e") in page.text
    assert "</title><script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_nothing_of_a_private_key_is_on_the_page(shared):
    for name in OFFICIAL:
        text = render(official(shared / "firmware" / name))
        for item, key in Firmware.open(shared / "firmware" / name).pki().items():
            if "_key" in item:
                assert not [
                    line for line in key.decode().splitlines() if len(line) > 40 and line[:30] in text
                ]


def test_a_partition_alone_has_a_page_without_a_map(tmp_path):
    path = tmp_path / "mfg_nvs.bin"
    path.write_bytes(builders.generate(builders.mfg_csv()))
    page = page_of(path)
    assert page.named("svg") == []
    assert "MINI-1" in page.text
    assert "pins-not-checked" in page.text
    assert "Partitions" not in page.text


def test_tables_that_contradict_themselves_can_be_drawn(tmp_path):
    from esp_at_tools.formats.partition_table import Partition, PartitionTable

    rows = (
        *builders.PRIMARY,
        Partition("stray", 1, 6, 0x20000, 0x100000),
        Partition("at_customize", 64, 0, 0x70000000, 4096),
    )
    data = bytearray(builders.image())
    data[0x8000 : 0x8000 + 0xC00] = PartitionTable(rows).to_bytes()
    path = tmp_path / "odd.bin"
    path.write_bytes(data)
    page = page_of(path)
    assert "stray" in page.text
    assert all(float(bar["width"]) > 0 for bar in page.named("rect"))


def test_an_existing_page_is_replaced_whole(cli, tmp_path):
    path = tmp_path / "factory.bin"
    path.write_bytes(builders.image())
    page = tmp_path / "a.html"
    page.write_text("x" * 1_000_000)
    assert cli("inspect", path, "--html", page).status == 0
    assert page.read_text().endswith("</html>\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "factory.bin"]


def test_besides_a_page_one_line_is_printed(cli, tmp_path):
    data = bytearray(builders.image())
    data[0x60300] ^= 1
    path, page = tmp_path / "factory.bin", tmp_path / "a.html"
    path.write_bytes(data)
    result = cli("inspect", path, "--html", page)
    assert (result.status, result.err) == (0, "")
    assert re.fullmatch(rf"written: {re.escape(str(page))} \(checks: \d+ errors?\b.*\)\n", result.out)
    checked = cli("inspect", path, "--html", page, "--check")
    assert (checked.status, checked.out) == (1, result.out)
    assert checked.err.startswith("error: ")
    assert "warning: " not in checked.err
    whole = cli("inspect", path, "--html", page, "-v")
    assert "ota_0" in whole.out
    assert f"written: {page}" in whole.err
    quiet = cli("inspect", path, "--html", page, "-q")
    assert quiet.out == ""
    assert "written" not in quiet.err


def test_on_a_phone_rows_of_partitions_fold_into_cards(shared):
    text = render(official(shared / "firmware" / "ESP32-C3-MINI-1-V5.0.1.0-assembled"))
    narrow = text.partition("@media (max-width: 560px)")[2].partition("@media")[0]
    assert ".partitions tr { display: grid;" in narrow
    cells = [attributes for attributes in Page(text).named("td") if attributes.get("data-label")]
    assert {cell["data-label"] for cell in cells} == {"Offset", "Size", "Used", "Type", "Table", "Flags"}
