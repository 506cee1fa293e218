"""migrate: whether an update over the air would do, and what stands against it."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import builders
import pytest

from esp_at_tools.firmware import migrate_ota
from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.firmware.migrate_ota import check_ota
from esp_at_tools.formats.partition_table import Partition, PartitionTable

APP = builders.APP_OFFSET
DESCRIPTOR = struct.pack("<I", 0xABCD5432)


@pytest.fixture
def opened(tmp_path):
    """Write images, changed as asked, and open them."""
    numbers = iter(range(100))

    def make(data=None, *, table=None, at=0x8000, size=None, **fields) -> Firmware:
        image = bytearray(builders.image() if data is None else data)
        if table is not None:
            image[0x8000:0x8C00] = b"\xff" * 0xC00
            image[at : at + 0xC00] = table.to_bytes()
        start = image.find(DESCRIPTOR, APP)
        if "secure_version" in fields:
            struct.pack_into("<I", image, start + 4, fields["secure_version"])
        if "idf" in fields:
            image[start + 112 : start + 144] = fields["idf"].encode().ljust(32, b"\0")
        if "min_rev" in fields:
            struct.pack_into("<H", image, APP + 15, fields["min_rev"])
        path = tmp_path / f"{next(numbers)}.bin"
        path.write_bytes(image if size is None else image[:size].ljust(size, b"\xff"))
        return Firmware.open(path)

    return make


def ids(ota, level=None) -> list[str]:
    return [finding.id for finding in ota.reasons if level in (None, finding.level)]


def without(*names: str) -> PartitionTable:
    return PartitionTable(tuple(each for each in builders.PRIMARY if each.name not in names), md5=False)


def with_sizes(**sizes: int) -> PartitionTable:
    return PartitionTable(
        tuple(replace(each, size=sizes.get(each.name, each.size)) for each in builders.PRIMARY), md5=False
    )


def test_the_same_layout_allows_it(opened):
    ota = check_ota(opened(), opened())
    assert (ota.possible, ota.reasons) == (True, [])


def test_one_slot_does_not(opened):
    ota = check_ota(opened(table=without("ota_1")), opened())
    assert ota.possible is False
    assert ids(ota, "blocks") == ["ota-no-slot"]
    assert "ota-table-differs" in ids(ota, "warning")


def test_without_otadata_the_other_slot_is_never_started(opened):
    assert ids(check_ota(opened(table=without("otadata")), opened()), "blocks") == ["ota-no-otadata"]


def test_storage_for_a_compressed_update_is_a_slot(opened):
    storage = Partition("storage", 1, migrate_ota.COMPRESSED_STORAGE, 0x230000, 0x100000)
    table = PartitionTable((*without("ota_1", "otadata"), storage), md5=False)
    ota = check_ota(opened(table=table), opened())
    assert ota.possible is True
    assert (
        "storage has 1048576 bytes"
        in next(each for each in ota.reasons if each.id == "ota-compressed").message
    )


def test_an_application_that_fits_the_larger_slot_goes_there_compressed(opened):
    app = len(builders.esp_image("esp32c3"))
    old = opened(table=with_sizes(ota_1=0x1000))
    assert app > 0x1000
    ota = check_ota(old, opened())
    assert ota.possible is True
    assert "ota-compressed" in ids(ota, "warning")


def test_an_application_that_fits_no_slot_does_not(opened):
    big = builders.esp_image("esp32c3", size=0x20000)
    image = bytearray(builders.image())
    image[APP : APP + len(big)] = big
    old = opened(table=with_sizes(ota_0=0x10000, ota_1=0x10000))
    ota = check_ota(old, opened(image))
    assert ids(ota, "blocks") == ["ota-app-too-large"]
    finding = ota.reasons[0]
    assert str(len(big)) in finding.message
    assert f"{len(big) - 0x10000} bytes too many" in finding.hint


def test_a_table_elsewhere_is_not_found(opened):
    ota = check_ota(opened(), opened(table=builders.PRIMARY, at=0xC000))
    assert ids(ota, "blocks") == ["ota-table-offset"]
    assert "0x8000" in ota.reasons[0].message
    assert "0xc000" in ota.reasons[0].message


def test_at_customize_must_be_there(opened):
    """An image without it has no secondary table; its parameters stand in the primary one."""
    mfg = Partition("mfg_nvs", 1, 2, builders.MFG_OFFSET, builders.MFG_SIZE)
    table = PartitionTable((*without("at_customize"), mfg), md5=False)
    assert ids(check_ota(opened(table=table), opened()), "blocks") == ["ota-no-at-customize"]


def test_a_smaller_flash_does_not(opened):
    large, small = opened(size=8 << 20), opened()
    assert ids(check_ota(small, large)) == ["ota-flash-size"]
    assert check_ota(small, large).possible is False
    assert check_ota(large, small).possible is True
    assert ids(check_ota(large, small), "info") == ["ota-flash-size"]


def test_a_lower_secure_version_does_not(opened):
    ota = check_ota(opened(secure_version=3), opened(secure_version=2))
    assert ids(ota, "blocks") == ["ota-secure-version"]
    assert check_ota(opened(secure_version=3), opened(secure_version=3)).reasons == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("v4.3.1-354-g98d34e5", "v5.4.4", ["ota-bootloader-stays"]),
        ("v5.4.4", "v4.3.1", ["ota-idf-older"]),
        ("v5.4.1", "v5.4.4", []),
        ("", "v5.4.4", []),
        ("HEAD-HASH", "v5.4.4", []),
    ],
)
def test_the_bootloader_stays(opened, old, new, found):
    ota = check_ota(opened(idf=old), opened(idf=new))
    assert (ota.possible, ids(ota)) == (True, found)


def test_a_later_chip_revision_is_warned_of(opened):
    ota = check_ota(opened(min_rev=3), opened(min_rev=200))
    assert ids(ota) == ["ota-chip-revision"]
    assert "v2.0" in ota.reasons[0].message
    assert "v0.3" in ota.reasons[0].message


def test_layouts(opened):
    legacy, modern = opened(builders.legacy_image()), opened()
    assert check_ota(legacy, modern).possible is True
    assert ids(check_ota(legacy, modern), "warning") == ["ota-legacy-parameters"]
    assert check_ota(modern, legacy).possible is False
    assert ids(check_ota(modern, legacy)) == ["ota-no-parameters"]


def test_other_chips_and_inputs_that_do_not_tell(opened, tmp_path):
    other = Firmware.open(_written(tmp_path / "c6.bin", builders.image(chip="esp32c6")))
    assert "ota-chip" in ids(check_ota(other, opened()), "blocks")
    alone = Firmware.open(_written(tmp_path / "mfg_nvs.bin", builders.generate(builders.mfg_csv())))
    for pair in ((alone, opened()), (opened(), alone)):
        ota = check_ota(*pair)
        assert (ota.possible, ids(ota)) == (None, ["ota-not-known"])
    empty = bytearray(builders.image())
    empty[APP : APP + 0x2000] = b"\xff" * 0x2000
    ota = check_ota(opened(), opened(empty))
    assert (ota.possible, ids(ota)) == (False, ["ota-no-application"])
    assert check_ota(opened(empty), opened()).possible is True


def _written(path, data):
    path.write_bytes(data)
    return path


def test_a_signed_application_stays_signed(opened):
    """A signature of Secure Boot version 2 stands in the sector behind the image."""
    app = builders.esp_image("esp32c3")
    at = APP + len(app) + -len(app) % 0x1000
    block = bytearray(1216)
    block[0:2] = bytes([0xE7, 2])
    struct.pack_into("<I", block, 1196, zlib.crc32(block[:1196]))
    image = bytearray(builders.image())
    image[APP + len(app) : at] = b"\xff" * (at - APP - len(app))
    image[at : at + len(block)] = block
    signed = opened(image)
    assert ids(check_ota(signed, opened()), "blocks") == ["ota-signature"]
    assert check_ota(signed, signed).reasons == []


def test_the_documentation_lists_every_id():
    used = set(re.findall(r'"(ota-[a-z-]+)"', Path(migrate_ota.__file__).read_text("utf-8")))
    listed = re.findall("^(ota-[a-z-]+) ", migrate_ota.__doc__ or "", re.MULTILINE)
    assert sorted(listed) == sorted(used)
