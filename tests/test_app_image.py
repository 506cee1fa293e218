"""Application and bootloader images, against esptool and against the real ones."""

from __future__ import annotations

import io
import pickle
import random
import struct
from dataclasses import replace
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import FormatError
from esp_at_tools.formats.app_image import AppDescriptor, AppImage, BootloaderDescriptor, xor_bytes
from esp_at_tools.formats.image_chips import CHIPS, ESP8266, FLASH_MODES, ChipFormat

RELEASES = {
    "ESP32-C3-MINI-1-V2.3.0.0": "esp32c3",
    "ESP32-C3-MINI-1-V5.0.1.0-assembled": "esp32c3",
    "ESP32-WROOM-32-V2.2.0.0": "esp32",
    "ESP8266-AT-V2.2.1.0": "esp8266",
}
FAMILY = [chip for chip in CHIPS if chip is not ESP8266]
RAM = 0x3FFE8000


def esptool_image(chip, data):
    from esptool.bin_image import LoadFirmwareImage

    return LoadFirmwareImage(chip, data)


def same_as_esptool(image: AppImage, data: bytes) -> None:
    theirs = esptool_image(image.chip, data)
    rom = theirs.ROM_LOADER
    assert image.entry == theirs.entrypoint
    assert image.format_version == theirs.version
    # esptool keeps the address of the segment's header, and pads short segments.
    assert [(s.address, s.offset - 8, s.size) for s in image.segments] == [
        (s.addr, s.file_offs, len(s.data)) for s in theirs.segments
    ]
    assert image.checksum_ok == (theirs.checksum == theirs.calculate_checksum())
    if rom.CHIP_NAME != "ESP8266":
        assert (image.sha256 is not None) == theirs.append_digest
        assert not theirs.append_digest or image.sha256_ok == (theirs.stored_digest == theirs.calc_digest)
        assert (image.min_rev, image.max_rev) == (theirs.min_rev_full, theirs.max_rev_full)
        assert image.legacy_min_rev == theirs.min_rev
        assert image.chip_id == theirs.chip_id
    for ours, code, names in (
        (image.flash_size, theirs.flash_size_freq & 0xF0, rom.FLASH_SIZES),
        (image.flash_freq, theirs.flash_size_freq & 0x0F, rom.FLASH_FREQUENCY),
    ):
        assert ours == next((name for name, value in names.items() if value == code), None)


# --- images built in code -------------------------------------------------------------------------


def build(chip, segments, *, mode=2, size_and_freq=0x20, entry=0x40080000, digest=True, form=1):
    """An image as esptool makes it, from (address, data)."""
    from esptool import bin_image
    from esptool.targets import CHIP_DEFS

    classes = {1: bin_image.ESP8266ROMFirmwareImage, 2: bin_image.ESP8266V2FirmwareImage,
               3: bin_image.ESP8266V3FirmwareImage}  # fmt: skip
    image = classes[form]() if chip == "esp8266" else CHIP_DEFS[chip].BOOTLOADER_IMAGE(append_digest=digest)
    image.segments = [bin_image.ELFSection(b".part", address, data, 0) for address, data in segments]
    image.flash_mode, image.flash_size_freq, image.entrypoint = mode, size_and_freq, entry
    saved = image.save(None)
    return saved[1] if isinstance(saved, tuple) else saved


def app_descriptor(version=b"v9.9.9", project=b"esp-at", *, secure=3, page=15):
    return struct.pack(
        "<II8s32s32s16s16s32s32sHHB3s72s",
        0xABCD5432, secure, b"", version, project, b"11:22:33", b"Jan  2 2030", b"v5.4.4", bytes(range(32)),
        1, 199, page, b"", b"",
    )  # fmt: skip


def bootloader_descriptor(idf=b"v5.4.4", when=b"Jan  2 2030 11:22:33"):
    return struct.pack("<B2sBI32s24s16s", 80, b"", 1, 7, idf, when, b"")


def random_bytes(count, seed=1):
    return random.Random(seed).randbytes(count)


# --- the real ones --------------------------------------------------------------------------------


@pytest.mark.parametrize(("release", "chip"), RELEASES.items())
def test_real_applications(shared, release, chip):
    data = (shared / "firmware" / release / "esp-at.bin").read_bytes()
    image = AppImage.from_bytes(data)
    same_as_esptool(image, data)
    assert (image.chip, image.size, image.signed_size) == (chip, len(data), len(data))
    assert (image.checksum_ok, image.sha256_ok, image.is_bootloader) == (True, True, False)
    assert image.app_descriptor.project_name == "esp-at"
    assert image.app_descriptor.version.startswith("v2.2.")
    assert image.bootloader_descriptor is None
    assert image.signature is None


@pytest.mark.parametrize(("release", "chip"), RELEASES.items())
def test_real_bootloaders(shared, release, chip):
    data = (shared / "firmware" / release / "bootloader/bootloader.bin").read_bytes()
    image = AppImage.from_bytes(data)
    same_as_esptool(image, data)
    assert (image.chip, image.size, image.is_bootloader) == (chip, len(data), True)
    assert image.checksum_ok
    # Bootloaders of the ESP8266 have no SHA-256, applications do, and nothing in the header tells.
    assert image.sha256_ok is (None if chip == "esp8266" else True)
    assert (image.flash_mode, image.flash_freq) == ("dio", "80m" if chip == "esp8266" else "40m")
    assert image.flash_bytes == (2 << 20 if chip == "esp8266" else 4 << 20)
    assert image.app_descriptor is None


def test_the_descriptor_of_a_real_application(shared):
    data = (shared / "firmware/ESP8266-AT-V2.2.1.0/esp-at.bin").read_bytes()
    descriptor = AppImage.from_bytes(data).app_descriptor
    assert (descriptor.version, descriptor.idf_version) == ("v2.2.1.0_esp8266-dirty", "v3.4-37-gd92d00e")
    assert descriptor.compile_time == "Aug  6 2021 12:28:03"


def test_images_inside_a_flash(shared):
    folder = shared / "firmware/ESP8266-AT-V2.2.1.0"
    flash = (folder / "factory/factory_WROOM-02.bin").read_bytes()
    application = AppImage.from_bytes((folder / "esp-at.bin").read_bytes())
    assert AppImage.from_bytes(flash, 0x10000) == application
    # The official image was merged by a tool that put the size in as on an ESP32: 1 is 2 MB there.
    bootloader = AppImage.from_bytes((folder / "bootloader/bootloader.bin").read_bytes())
    assert (bootloader.flash_size, AppImage.from_bytes(flash).flash_size) == ("2MB", "256KB")
    assert AppImage.from_bytes(flash) == replace(bootloader, flash_size="256KB")


def test_a_changed_byte_is_noticed(shared):
    data = bytearray((shared / "firmware/ESP32-C3-MINI-1-V2.3.0.0/esp-at.bin").read_bytes())
    data[0x100000] ^= 1
    image = AppImage.from_bytes(bytes(data))
    assert (image.checksum_ok, image.sha256_ok) == (False, False)
    data[0x100100] ^= 1  # the checksum does not notice two, the SHA-256 does
    image = AppImage.from_bytes(bytes(data))
    assert (image.checksum_ok, image.sha256_ok) == (True, False)


# --- against esptool ------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_chips_are_as_esptool_knows_them(chip: ChipFormat):
    from esptool.targets import CHIP_DEFS

    rom = CHIP_DEFS[chip.name]
    assert chip.id == getattr(rom, "IMAGE_CHIP_ID", None)
    assert chip.is_mapped(rom.IROM_MAP_START)
    assert chip is ESP8266 or chip.is_mapped(rom.DROM_MAP_START)
    for low, _high, kind in rom.MEMORY_MAP:
        if kind in ("DRAM", "IRAM"):
            assert not chip.is_mapped(low), kind


def test_no_chip_of_esptool_is_missing():
    from esptool.targets import CHIP_DEFS

    assert {chip.name for chip in CHIPS} >= set(CHIP_DEFS)


@pytest.mark.parametrize("chip", FAMILY, ids=lambda chip: chip.name)
@pytest.mark.parametrize("code", range(16))
def test_every_code_of_the_flash(chip, code):
    data = build(chip.name, [(RAM, b"1234")], mode=code, size_and_freq=code << 4 | (15 - code))
    image = AppImage.from_bytes(data)
    same_as_esptool(image, data)
    assert image.flash_mode == (FLASH_MODES[code] if code < len(FLASH_MODES) else None)


@pytest.mark.parametrize("code", range(16))
def test_every_code_of_the_flash_of_the_esp8266(code):
    data = build("esp8266", [(0x40100000, b"1234")], mode=code, size_and_freq=code << 4 | code)
    image = AppImage.from_bytes(data)
    same_as_esptool(image, data)
    megabytes = {0: 0.5, 1: 0.25, 2: 1, 3: 2, 4: 4, 5: 2, 6: 4, 8: 8, 9: 16}
    assert image.flash_bytes == (int(megabytes[code] * (1 << 20)) if code in megabytes else None)


parts = st.lists(st.binary(min_size=1, max_size=90), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FAMILY), parts, st.booleans(), st.integers(0, 255), st.integers(0, 0xFFFFFFFF))
def test_images_of_esptool(chip, contents, digest, size_and_freq, entry):
    segments = [(0x20000000 + 0x1000 * i, part) for i, part in enumerate(contents)]
    data = build(chip.name, segments, digest=digest, size_and_freq=size_and_freq, entry=entry)
    image = AppImage.from_bytes(data + b"\xff" * 20)
    same_as_esptool(image, data)
    assert image.size == len(data)
    assert image.checksum_ok
    assert image.sha256_ok is (True if digest else None)


@settings(max_examples=80, deadline=None)
@given(parts, st.sampled_from([1, 2, 3]), st.booleans())
def test_esp8266_images_of_esptool(contents, form, padded):
    segments = [(0x40100000 + 0x100 * i, part) for i, part in enumerate(contents)]
    if form > 1:
        segments.append((0x40210010, random_bytes(100)))
    data = build("esp8266", segments, form=form)
    image = AppImage.from_bytes(data + b"\xff" * 50 if padded else data)
    assert (image.chip, image.format_version, image.size) == ("esp8266", 2 if form == 2 else 1, len(data))
    assert image.checksum_ok
    assert image.sha256_ok is (True if form == 3 else None)
    assert image.is_bootloader == (form == 1)
    if form == 1:
        same_as_esptool(image, data)
    if form == 2:
        theirs = esptool_image("esp8266", data)
        assert [(s.address, s.size) for s in image.segments] == [
            (s.addr, len(s.data)) for s in theirs.segments
        ]
        assert not image.segments[0].in_checksum
        assert AppImage.from_bytes(data[:-4]) == replace(
            image, size=len(data) - 4
        )  # its CRC is no part of it


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["esp32s3", "esp32c6", "esp8266"]), parts, st.data())
def test_changed_images_are_read_as_esptool_reads_them_or_refused(chip, contents, data):
    good = build(chip, [(0x40100000 + 0x100 * i, part) for i, part in enumerate(contents)])
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(len(good) - 40, len(good)))])
    try:
        image = AppImage.from_bytes(cut)
    except FormatError:
        return
    if image.chip == chip and image.format_version == 1 and not (chip == "esp8266" and image.sha256):
        same_as_esptool(image, cut)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xe9", b"\xea\x04", b"\xe9\x02\x02\x20"]),
    st.integers(-5, 500),
)
def test_any_bytes_give_an_image_or_our_error(noise, start, offset):
    for value in (0, offset):
        try:
            image = AppImage.from_bytes(start + noise, value)
        except FormatError:
            continue
        assert image.size <= len(start + noise)


def test_any_byte_of_the_headers_may_be_anything(shared):
    good = (shared / "firmware/ESP8266-AT-V2.2.1.0/bootloader/bootloader.bin").read_bytes()
    family = build("esp32c3", [(0x3FC80000, b"abcd" * 8), (0x42000020, app_descriptor())])
    for source in (good, family):
        for position in (*range(40), len(source) - 33, len(source) - 1):
            for value in (0x00, 0x01, 0x3F, 0x40, 0x7F, 0x80, 0xE9, 0xEA, 0xFF):
                changed = bytearray(source)
                changed[position] = value
                try:
                    AppImage.from_bytes(changed)
                except FormatError as error:
                    assert error.hint  # noqa: PT017 - most changes are harmless


def test_sixteen_megabytes_take_no_time():
    huge = struct.pack("<BBBBI", 0xE9, 16, 2, 0x20, 0) + struct.pack(
        "<B3sHBHH4sB", 0xEE, b"", 0, 0, 0, 0, b"", 1
    )
    huge += struct.pack("<II", 0x3F400020, 0xFFFFFC) + random_bytes(1 << 20) * 16
    with pytest.raises(FormatError, match="segment 1"):
        AppImage.from_bytes(huge)


# --- what is refused ------------------------------------------------------------------------------


def header(count=1, magic=0xE9, chip_id=5, hashed=0):
    return struct.pack("<BBBBI", magic, count, 2, 0x20, 0x40000000) + struct.pack(
        "<B3sHBHH4sB", 0xEE, b"", chip_id, 0, 0, 0, b"", hashed
    )


def segment(address, content):
    return struct.pack("<II", address, len(content)) + content


SEGMENT = segment(0x3FC80000, b"abcd")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no application image"),
        (header()[:23], "23 bytes are no application image"),
        (b"\xff" * 64, "begins with 0xff, not 0xe9"),
        (b"\x7fELF" + b"\0" * 60, "begins with 0x7f"),
        (header(count=0) + SEGMENT * 2, "says 0 segments"),
        (header(count=17) + SEGMENT * 20, "says 17 segments"),
        (header(hashed=2) + SEGMENT * 2, "0x02 where 0 or 1"),
        (header() + b"1234567", "ends at 0x1f, before the header of segment 0"),
        (header(count=2) + SEGMENT, "ends at 0x24, before the header of segment 1"),
        (header() + SEGMENT[:-1], "ends at 0x23, inside segment 0 of 0x4 bytes"),
        (header() + struct.pack("<II", 0, 5) + b"12345678", "segment 0 at 0x18 .* a length of 0x5"),
        (header() + struct.pack("<II", 0, 0xFFFFFFFC) + b"12345678", "a length of 0xfffffffc"),
        (header() + SEGMENT, "ends at 0x24, before its checksum"),
        (header(hashed=1) + SEGMENT + b"\0" * 12 + b"\0" * 31, "ends at 0x4f, inside its SHA-256"),
        (header(magic=0xEA)[:8] + segment(0, b"\0" * 8) + b"\xff" * 8, "no second header at 0x18"),
        (header(magic=0xEA)[:8] + segment(0, b"\0" * 16), "no second header at 0x20"),
        (build("esp8266", [(0x40210010, b"x" * 80)], form=3)[:-1], "inside its SHA-256"),
    ],
)
def test_what_is_no_image_is_refused(data, message):
    with pytest.raises(FormatError, match=message):
        AppImage.from_bytes(data)


def test_a_chip_that_nobody_knows_is_named_by_its_number():
    image = AppImage.from_bytes(header(chip_id=0x63) + SEGMENT + b"\0" * 12)
    assert (image.chip, image.flash_freq, image.flash_size) == ("chip id 0x0063", None, "4MB")
    assert not image.is_bootloader
    assert not image.checksum_ok


def test_a_second_byte_of_the_chip_id_counts():
    # esptool 5.6 looks at the low byte alone and takes this for an ESP32-C3.
    assert AppImage.from_bytes(header(chip_id=0x105) + SEGMENT + b"\0" * 12).chip == "chip id 0x0105"


# --- what is in an image --------------------------------------------------------------------------


def test_descriptor_of_an_application():
    data = build("esp32c6", [(0x40800000, random_bytes(64)), (0x42000020, app_descriptor())])
    image = AppImage.from_bytes(data)
    assert image.app_descriptor == AppDescriptor(
        "v9.9.9", "esp-at", "11:22:33", "Jan  2 2030", "v5.4.4", bytes(range(32)).hex(), 3, 1, 199, 32768
    )
    assert not image.is_bootloader


def test_texts_of_a_descriptor_may_fill_their_field_or_be_no_text():
    full = AppDescriptor.from_bytes(app_descriptor(b"v" * 32, b"\xff\xfe"))
    assert (full.version, full.project_name) == ("v" * 32, "\\xff\\xfe")
    assert AppDescriptor.from_bytes(app_descriptor()[:255]) is None
    assert AppDescriptor.from_bytes(b"\0" * 256) is None


def test_descriptor_of_a_bootloader():
    # With a descriptor it is a bootloader even where a part of it stays in flash.
    data = build("esp32c3", [(0x3FC80000, bootloader_descriptor()), (0x403C8000, random_bytes(64))])
    image = AppImage.from_bytes(data)
    assert image.bootloader_descriptor == BootloaderDescriptor(7, "v5.4.4", "Jan  2 2030 11:22:33", 1)
    assert image.is_bootloader
    assert AppImage.from_bytes(build("esp32c3", [(0x3FC80000, random_bytes(80))])).is_bootloader


@pytest.mark.parametrize("idf", [b"", b"\xff\xff", b"\x01\x02"])
def test_one_byte_of_magic_is_not_enough_for_a_bootloader(idf):
    assert BootloaderDescriptor.from_bytes(bootloader_descriptor(idf)) is None


@pytest.mark.parametrize("chip", FAMILY, ids=lambda chip: chip.name)
def test_applications_are_told_from_bootloaders_by_what_stays_in_flash(chip):
    mapped = AppImage.from_bytes(header(chip_id=chip.id) + segment(chip.mapped[0][0], b"abcd") + b"\0" * 12)
    loaded = AppImage.from_bytes(header(chip_id=chip.id) + segment(0x20000000, b"abcd") + b"\0" * 12)
    assert (mapped.is_bootloader, loaded.is_bootloader) == (False, True)


# --- signatures -----------------------------------------------------------------------------------


def sign(tmp_path: Path, data: bytes, *, version: str, keys: int = 1) -> bytes:
    """Sign as the public tool does, with keys made for this test."""
    import espsecure
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = [
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for _ in range(keys)
    ]
    source = io.BytesIO(data)
    source.name = "image"
    target = tmp_path / "signed"
    files = []
    for index, pem in enumerate(private):
        files.append(io.BytesIO(pem))
        files[-1].name = f"key{index}"
    espsecure.sign_data(version, files, str(target), False, False, None, [], [], source)
    return target.read_bytes()


APP = build("esp32c3", [(0x3FC80000, random_bytes(6000)), (0x42000020, app_descriptor())])


def test_signature_of_secure_boot_1(tmp_path):
    signed = sign(tmp_path, APP, version="1")
    image = AppImage.from_bytes(signed)
    assert (image.signature.version, image.signature.scheme) == (1, "ECDSA")
    assert (image.size, image.signed_size) == (len(APP), len(signed))
    assert AppImage.from_bytes(signed + b"\xff" * 1000).signature == image.signature
    assert AppImage.from_bytes(signed + b"more").signature is None


@pytest.mark.parametrize("keys", [1, 3])
def test_signature_of_secure_boot_2(tmp_path, keys):
    signed = sign(tmp_path, APP, version="2", keys=keys)
    image = AppImage.from_bytes(b"\xff" * 0x1000 + signed + b"\xff" * 0x1000, 0x1000)
    found = image.signature
    assert (found.version, found.scheme, found.blocks) == (2, "ECDSA", keys)
    assert (image.signed_size, found.offset % 0x1000) == (len(signed), 0)
    assert image.sha256_ok
    damaged = bytearray(signed)
    for block in range(3):
        damaged[found.offset + block * 1216 + 50] ^= 1
    assert AppImage.from_bytes(damaged).signature is None
    assert AppImage.from_bytes(signed[:-1]).signature is None


def test_what_follows_an_image_is_not_taken_for_a_signature():
    for behind in (b"", b"\xff" * 5000, b"\0" * 5000, b"\0\0\0\0" + b"\xff" * 64, random_bytes(5000)):
        assert AppImage.from_bytes(APP + behind).signature is None


# --- arithmetic -----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([0, 1, 65535, 65536, 65537, 200000]))
def test_xor_of_bytes(data, more):
    data += random_bytes(more)
    assert xor_bytes(data) == reduce(xor, data, 0)


def test_an_image_goes_to_another_process():
    data = build("esp32c3", [(RAM, b"code")])
    for image in (AppImage.from_bytes(data), AppImage.from_bytes(data[:-1] + bytes([data[-1] ^ 1]))):
        other = pickle.loads(pickle.dumps(image))  # noqa: S301 - made right here
        assert other == image
        assert (other.checksum_ok, other.sha256_ok) == (image.checksum_ok, image.sha256_ok)
