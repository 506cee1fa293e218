"""Firmware made in code, for tests that need no real one: images, releases, certificates."""

from __future__ import annotations

import datetime as dt
import functools
import io
import json
import struct
import zipfile
from pathlib import Path

from esp_idf_nvs_partition_gen import nvs_partition_gen as generator

from esp_at_tools.formats.partition_table import Partition, PartitionTable

FLASH_SIZE = 4 << 20
TABLE_OFFSET = 0x8000
APP_OFFSET = 0x60000
MFG_OFFSET, MFG_SIZE = 0x1F000, 0x1F000
RAM = 0x3FC80000

PRIMARY = PartitionTable(
    (
        Partition("otadata", 1, 0x00, 0xD000, 0x2000),
        Partition("phy_init", 1, 0x01, 0xF000, 0x1000),
        Partition("nvs", 1, 0x02, 0x10000, 0xE000),
        Partition("at_customize", 0x40, 0x00, 0x1E000, 0x42000),
        Partition("ota_0", 0, 0x10, APP_OFFSET, 0x1D0000),
        Partition("ota_1", 0, 0x11, 0x230000, 0x1D0000),
    ),
    md5=False,
)
SECONDARY = PartitionTable(
    (
        Partition("mfg_nvs", 1, 0x02, MFG_OFFSET, MFG_SIZE),
        Partition("fatfs", 1, 0x81, 0x47000, 0x19000),
    )
)
SETTINGS = {
    "version": ("i8", "4"),
    "module_name": ("string", "MINI-1"),
    "max_tx_power": ("i8", "78"),
    "country_code": ("string", "CN"),
    "start_channel": ("u8", "1"),
    "channel_num": ("u8", "13"),
    "uart_port": ("i8", "1"),
    "uart_baudrate": ("i32", "115200"),
    "uart_tx_pin": ("i32", "7"),
    "uart_rx_pin": ("i32", "6"),
    "uart_cts_pin": ("i32", "5"),
    "uart_rts_pin": ("i32", "4"),
    "sys_store": ("u8", "1"),
}


@functools.cache
def esp_image(chip: str = "esp32c3", *, app: bool = True, size: int = 4096) -> bytes:
    """An application (with a descriptor) or a bootloader, as esptool makes it."""
    from esptool import bin_image
    from esptool.targets import CHIP_DEFS

    image = CHIP_DEFS[chip].BOOTLOADER_IMAGE(append_digest=True)
    descriptor = struct.pack(
        "<II8s32s32s16s16s32s32sHHB3s72s",
        0xABCD5432, 0, b"", b"v9.9.9.0", b"esp-at", b"11:22:33", b"Jan  2 2030", b"v5.4.4", bytes(range(32)),
        0, 199, 16, b"", b"",
    )  # fmt: skip
    body = (descriptor if app else b"") + bytes(range(256)) * (size // 256)
    image.segments = [bin_image.ELFSection(b".part", RAM, body, 0)]
    image.flash_mode, image.flash_size_freq, image.entrypoint = 2, 0x20, RAM
    saved = image.save(None)
    return saved[1] if isinstance(saved, tuple) else saved


def mfg_csv(extra: str = "") -> str:
    """The CSV of a partition with settings, and whatever else is given."""
    rows = ["key,type,encoding,value", "factory_param,namespace,,"]
    rows += [f"{key},data,{kind},{value}" for key, (kind, value) in SETTINGS.items()]
    return "\n".join(rows) + "\n" + extra


def generate(csv_text: str, size: int = MFG_SIZE, folder: Path | None = None) -> bytes:
    """A partition made by the public generator."""
    import csv

    buffer = io.BytesIO()
    with generator.nvs_open(buffer, size - 4096, generator.Page.VERSION2) as nvs:
        for row in csv.DictReader(csv_text.splitlines()):
            value = row["value"]
            if row["type"] == "file" and folder is not None:
                value = str(folder / value)
            generator.write_entry(nvs, row["key"], row["type"], row["encoding"], value)
    return buffer.getvalue()


def parts(mfg_nvs: bytes | None = None, chip: str = "esp32c3") -> dict[int, tuple[str, bytes]]:
    """Address → name and contents of every file of a release."""
    return {
        0x0: ("bootloader/bootloader.bin", esp_image(chip, app=False)),
        APP_OFFSET: ("esp-at.bin", esp_image(chip)),
        TABLE_OFFSET: ("partition_table/partition-table.bin", PRIMARY.to_bytes()),
        0xD000: ("ota_data_initial.bin", b"\xff" * 0x2000),
        0x1E000: ("at_customize.bin", SECONDARY.to_bytes()),
        MFG_OFFSET: ("customized_partitions/mfg_nvs.bin", mfg_nvs or generate(mfg_csv())),
    }


def image(mfg_nvs: bytes | None = None, *, filled: bool = True, chip: str = "esp32c3") -> bytes:
    """A full flash image."""
    placed = parts(mfg_nvs, chip)
    end = FLASH_SIZE if filled else max(at + len(data) for at, (_, data) in placed.items())
    flash = bytearray(b"\xff" * end)
    for at, (_, data) in placed.items():
        flash[at : at + len(data)] = data
    return bytes(flash)


def release(folder: Path, mfg_nvs: bytes | None = None, csv_text: str | None = None) -> Path:
    """A release folder with its merged images."""
    placed = parts(mfg_nvs)
    files = dict(placed.values())
    files["customized_partitions/mfg_nvs.csv"] = (csv_text or mfg_csv()).encode()
    files["factory/factory_MINI-1.bin"] = image(mfg_nvs)
    files["factory/factory_MINI-1_unfilled.bin"] = image(mfg_nvs, filled=False)
    settings = {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "40m"}
    document = {
        "write_flash_args": [word for key, value in settings.items() for word in (f"--{key}", value)],
        "flash_settings": settings,
        "flash_files": {f"{at:#x}": name for at, (name, _) in placed.items()},
        "extra_esptool_args": {
            "after": "hard_reset",
            "before": "default_reset",
            "stub": True,
            "chip": "esp32c3",
        },
    }
    files["flasher_args.json"] = json.dumps(document, indent=4).encode()
    words = ["--flash_mode dio --flash_freq 40m --flash_size 4MB"]
    words += [f"{at:#x} {name}" for at, (name, _) in placed.items()]
    files["download.config"] = " ".join(words).encode()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(folder: Path, archive: Path, prefix: str = "") -> Path:
    """A folder as a .zip."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, prefix + path.relative_to(folder).as_posix())
    return archive


def full_image(folder: Path, size: int) -> bytes:
    """The full image of a release: its parts over 0xFF."""
    flash = bytearray(b"\xff" * size)
    for at, name in json.loads((folder / "flasher_args.json").read_text())["flash_files"].items():
        data = (folder / name).read_bytes()
        flash[int(at, 16) : int(at, 16) + len(data)] = data
    return bytes(flash)


def tree(path: Path) -> dict[str, bytes]:
    """Every file of a folder or .zip, by name."""
    if path.is_dir():
        return {
            file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
        }
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


# --- certificates, generated ---------------------------------------------------------------------


@functools.cache
def key_pair(number: int = 0):
    """A private key on the curve P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    del number
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(number: int = 0) -> bytes:
    """A private key as PEM."""
    from cryptography.hazmat.primitives import serialization

    return key_pair(number).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@functools.cache
def certificate(
    number: int = 0,
    *,
    ca: bool = False,
    days: tuple[int, int] = (-1, 3650),
    der: bool = False,
    name: str = "",
) -> bytes:
    """A certificate for :func:`key_pair` of the same number, self-signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or f"device {number}")])
    now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key_pair(number).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key_pair(number), hashes.SHA256())
    )
    encoding = serialization.Encoding.DER if der else serialization.Encoding.PEM
    return built.public_bytes(encoding)


# --- the legacy layout ---------------------------------------------------------------------------


LEGACY_PKI = ("server_cert", "server_key", "server_ca", "client_cert", "client_key", "client_ca",
              "wpa2_cert", "wpa2_key", "wpa2_ca", "mqtt_cert", "mqtt_key", "mqtt_ca")  # fmt: skip
LEGACY_SECONDARY = PartitionTable(
    (
        Partition("ble_data", 0x40, 1, 0x1F000, 0x6000),
        Partition("factory_param", 0x40, 2, 0x25000, 0x1000),
        *(Partition(name, 0x40, 3 + n, 0x26000 + 0x2000 * n, 0x2000) for n, name in enumerate(LEGACY_PKI)),
        Partition("fatfs", 1, 0x81, 0x47000, 0x19000),
    )
)
GATT_ROWS = (
    {
        "index": 0,
        "uuid_len": 16,
        "uuid": "2800",
        "perm": 1,
        "val_max_len": 2,
        "val_cur_len": 2,
        "value": "A002",
    },
    {
        "index": 1,
        "uuid_len": 16,
        "uuid": "2803",
        "perm": 1,
        "val_max_len": 1,
        "val_cur_len": 1,
        "value": "02",
    },
    {
        "index": 2,
        "uuid_len": 16,
        "uuid": "C300",
        "perm": 1,
        "val_max_len": 1,
        "val_cur_len": 1,
        "value": "30",
    },
)


def factory_param(*, version: int = 3, platform: str = "PLATFORM_ESP32C3", module: str = "MINI-1") -> bytes:
    """A record of the settings in :data:`SETTINGS`."""
    record = struct.pack(
        "<HBBbbBB4sibbbbbb2x32s32s",
        0xFCFC, version, 0xFF, 78, 1, 1, 13, b"CN", 115200, 7, 6, 5, 4, -1, -1,
        platform.encode(), module.encode(),
    )  # fmt: skip
    return record.ljust(4096, b"\xff")


def pki_list(*items: bytes) -> bytes:
    """The items of one legacy partition."""
    body = b"".join(
        struct.pack("<BBH", 2, number, len(item)) + item + b"\xff" * (-len(item) % 4)
        for number, item in enumerate(items)
    )
    return struct.pack("<HHI", 0xF1F1, len(items), len(body)) + body


def ble_data(rows: tuple[dict[str, object], ...] = GATT_ROWS) -> bytes:
    """The GATT table of the legacy layout."""
    text = json.dumps({"Service": rows}).encode()
    return struct.pack("<HBB", len(text), 0x27, 0x95) + text


def legacy_parts() -> dict[int, tuple[str, bytes]]:
    """Address → name and contents of every file of a legacy release; its wpa2 partitions have none."""
    place = {partition.name: partition.offset for partition in LEGACY_SECONDARY}
    files = {"ble_data": ble_data(), "factory_param": factory_param()}
    for name in ("server", "client", "mqtt"):
        pair = 2 if name == "client" else 1
        files[f"{name}_ca"] = pki_list(*[certificate(1, ca=True)] * pair)
        files[f"{name}_cert"] = pki_list(*[certificate(0)] * pair)
        files[f"{name}_key"] = pki_list(*[key_pem(0)] * pair)
    return {
        **{at: part for at, part in parts(b"").items() if at not in (0x1E000, MFG_OFFSET)},
        0x1E000: ("at_customize.bin", LEGACY_SECONDARY.to_bytes()),
        **{place[name]: (f"customized_partitions/{name}.bin", data) for name, data in files.items()},
    }


def legacy_image() -> bytes:
    """A full flash image of the legacy layout."""
    flash = bytearray(b"\xff" * FLASH_SIZE)
    for at, (_, data) in legacy_parts().items():
        flash[at : at + len(data)] = data
    return bytes(flash)


def legacy_release(folder: Path) -> Path:
    """A release folder of the legacy layout."""
    placed = legacy_parts()
    words = ["--flash_mode dio --flash_freq 40m --flash_size 4MB"]
    words += [f"{at:#x} {name}" for at, (name, _) in placed.items()]
    files = {**dict(placed.values()), "download.config": " ".join(words).encode()}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
