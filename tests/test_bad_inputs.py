"""What goes wrong, each with its message: nothing is written, nothing is changed, no traceback.

One table: how to make the input, the arguments, the exit status, what the message must say.
"""

# ruff: noqa: E501 - a row of the table is one line, so that the table can be read down its columns

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import builders
import pytest

from esp_at_tools.formats.nvs import NvsPartition
from esp_at_tools.formats.partition_table import Partition, PartitionTable

Make = Callable[[Path], object]
M = ("modify-bin", "-in", "in.bin", "-o", "out.bin")
FOLDER = ("modify-bin", "-in", "in", "-o", "out", "-b", "9600")
PLACE = {partition.name: partition.offset for partition in builders.LEGACY_SECONDARY}
MFG, SECONDARY, APP = builders.MFG_OFFSET, 0x1E000, builders.APP_OFFSET


# --- making inputs ---------------------------------------------------------------------------------------


@functools.cache
def modern_bytes() -> bytes:
    rows = "".join(f'cfg{n},data,string,"{row}"\n' for n, row in enumerate(ROWS))
    return builders.image(builders.generate(builders.mfg_csv("ble_data,namespace,,\n" + rows)))


@functools.cache
def legacy_bytes() -> bytes:
    return builders.legacy_image()


ROWS = ("0,16,0x2800,0x01,2,2,A002", "1,16,0x2803,0x01,1,1,02", "2,16,0xC300,0x01,1,1,30")


def image(folder: Path) -> None:
    (folder / "in.bin").write_bytes(modern_bytes())


@dataclass(frozen=True)
class Bad:
    """One row of the table.

    Attributes:
        name: what is wrong.
        args: the command line, in the folder that ``make`` has filled.
        message: pattern that the message on stderr must have.
        make: puts the inputs into the folder; the modern image as ``in.bin`` by default.
        status: exit status.
    """

    name: str
    args: tuple[str, ...]
    message: str
    make: Make = image
    status: int = 2


def legacy(folder: Path) -> None:
    (folder / "in.bin").write_bytes(legacy_bytes())


def lone_nvs(folder: Path) -> None:
    (folder / "in.bin").write_bytes(modern_bytes()[MFG : MFG + builders.MFG_SIZE])


def lone_record(platform: str = "PLATFORM_ESP32C3") -> Make:
    return lambda folder: (folder / "in.bin").write_bytes(builders.factory_param(platform=platform))


def data(contents: bytes, name: str = "in.bin") -> Make:
    return lambda folder: (folder / name).write_bytes(contents)


def nothing(folder: Path) -> None:
    del folder


def both(*makes: Make) -> Make:
    return lambda folder: [make(folder) for make in makes]


def patched(at: int, contents: bytes, base: Callable[[], bytes] = modern_bytes) -> Make:
    """An image with other bytes at an address."""

    def make(folder: Path) -> None:
        flash = bytearray(base())
        flash[at : at + len(contents)] = contents
        (folder / "in.bin").write_bytes(flash)

    return make


def cut(size: int, base: Callable[[], bytes] = modern_bytes) -> Make:
    return lambda folder: (folder / "in.bin").write_bytes(base()[:size])


def table(*rows: Partition, at: int = 0x8000, md5: bool = True) -> Make:
    return patched(at, PartitionTable(rows, md5=md5).to_bytes())


def primary_with(**changes: tuple[int, int]) -> Make:
    """An image whose primary table has other places for some partitions."""
    rows = (
        Partition(row.name, row.type, row.subtype, *changes.get(row.name, (row.offset, row.size)))
        for row in builders.PRIMARY
    )
    return table(*rows)


def release(folder: Path) -> Path:
    return builders.release(folder / "in")


def changed_release(change: Callable[[Path], object]) -> Make:
    return lambda folder: change(release(folder))


def config(text: str) -> Make:
    """A legacy release (it has only a download.config) whose list ends in more words."""

    def make(folder: Path) -> None:
        path = builders.legacy_release(folder / "in") / "download.config"
        path.write_text(f"{path.read_text()} {text}")

    return make


def zipped(members: dict[str, bytes], change: Callable[[bytes], bytes] = bytes, **options: object) -> Make:
    def make(folder: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", **options) as out:
            for name, contents in members.items():
                out.writestr(zipfile.ZipInfo(name), contents, out.compression)
        (folder / "in.bin").write_bytes(change(buffer.getvalue()))

    return make


def zip_of_release(change: Callable[[bytes], bytes] = bytes, drop: str = "") -> Make:
    def make(folder: Path) -> None:
        source = builders.release(folder / "r")
        if drop:
            (source / drop).unlink()
        path = builders.zipped(source, folder / "in.bin", "r/")
        path.write_bytes(change(path.read_bytes()))

    return make


def with_flag(archive: bytes, flag: int) -> bytes:
    """Set a flag on every member of an archive."""
    flagged = bytearray(archive)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = flagged.find(mark)
        while at >= 0:
            flagged[at + place] |= flag
            at = flagged.find(mark, at + 1)
    return bytes(flagged)


def bomb(archive: bytes) -> bytes:
    """Let every member of an archive say that it has 2 GB."""
    grown = bytearray(archive)
    at = grown.find(b"PK\x01\x02")
    while at >= 0:
        grown[at + 24 : at + 28] = struct.pack("<I", 2 << 30)
        at = grown.find(b"PK\x01\x02", at + 1)
    return bytes(grown)


def pem(name: str, contents: Callable[[], bytes], base: Make = image) -> Make:
    """A certificate or key in a file, and an image."""
    return lambda folder: (base(folder), (folder / name).write_bytes(contents()))


@functools.cache
def csr() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(builders.key_pair(0), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@functools.cache
def public_key() -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return builders.key_pair(0).public_key().public_bytes(serialization.Encoding.PEM, form)


@functools.cache
def locked_key() -> bytes:
    from cryptography.hazmat.primitives import serialization

    return builders.key_pair(0).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )


def cert() -> bytes:
    return builders.certificate(0)


def key() -> bytes:
    return builders.key_pem(0)


def chain(size: int) -> Callable[[], bytes]:
    return lambda: cert() * (size // len(cert()) + 1)


def profile(text: str | bytes, base: Make = image) -> Make:
    contents = text.encode() if isinstance(text, str) else text
    return lambda folder: (base(folder), (folder / "p.yaml").write_bytes(contents))


def damaged_nvs(folder: Path) -> None:
    """A page whose header is damaged, with entries in it."""
    patched(MFG + 4, b"\x05")(folder)


def lost_entry(folder: Path) -> None:
    """An entry whose CRC is wrong, so that the firmware drops it."""
    flash = bytearray(modern_bytes())
    place = flash.index(b"uart_baudrate\0", MFG)
    flash[place - 4] ^= 0xFF
    (folder / "in.bin").write_bytes(flash)


def full_nvs(folder: Path) -> None:
    """A partition of 12 KB that is nearly full."""
    nvs = NvsPartition.from_csv(builders.mfg_csv(), 0x3000)
    nvs.set("mqtt_ca", "mqtt_ca", "blob", b"x" * 3500)
    (folder / "in.bin").write_bytes(nvs.to_bytes())


def no_partition_of_ours(folder: Path) -> None:
    table(Partition("fatfs", 1, 0x81, 0x47000, 0x19000), at=SECONDARY)(folder)


def two_releases(folder: Path) -> None:
    for name in ("a", "b"):
        builders.legacy_release(folder / "in" / name)


def special(make: Callable[[Path], object], name: str, base: Make = image) -> Make:
    return lambda folder: (base(folder), make(folder / name))


SET_BAUD = ("-b", "9600")
PROFILE = (*M, "--profile", "p.yaml")

# --- the command line ------------------------------------------------------------------------------------

USAGE = [
    Bad("no input", ("modify-bin", "-b", "9600"), r"Missing option '--input'"),
    Bad("nothing asked", M, r"nothing to change was asked for\n  name a change"),
    Bad("unknown option", (*M, "--tx-pn", "5"), r"No such option.*--tx-pn.*--tx-pin"),
    Bad("unknown command", ("modify-bim", "-in", "in.bin"), r"no command 'modify-bim'; did you mean 'modify-bin'"),
    Bad("option without value", (*M, "-b"), r"Option '-b' requires an argument.\n  see 'esp-at-tool --help'"),
    Bad("stray argument", (*M, *SET_BAUD, "more"), r"unexpected extra argument.*more"),
    Bad("empty input path", ("modify-bin", "-in", "", *SET_BAUD), r"'--input' / '-in': the path is empty"),
    Bad("empty output path", ("modify-bin", "-in", "in.bin", "-o", "", *SET_BAUD), r"'--output' / '-o': the path is empty"),
    Bad("in place and output", (*M, "--in-place", *SET_BAUD), r"--in-place and --output exclude each other\n  give one"),
    Bad("one option, two values", (*M, "-b", "9600", "--baud", "1200"), r"--baud: uart_baudrate was already given by --baud"),
    Bad("option and --set", (*M, "-tx", "3", "--set", "uart_tx_pin=4"), r"--set uart_tx_pin: .*already given by --tx-pin"),
    Bad("--set and --unset", (*M, "-cc", "US", "--unset", "country_code"), r"--unset country_code and --country-code contradict"),
    Bad("--set without value", (*M, "--set", "uart_baudrate"), r"--set uart_baudrate: has no value\n  write --set NAME=VALUE"),
    Bad("unknown name", (*M, "--set", "uart_baud=9600"), r"'uart_baud' is not the name of a setting.*\n  did you mean uart_baudrate\?"),
    Bad("name with hyphens", (*M, "--set", "uart-tx-pin=3"), r"'uart-tx-pin' is not.*\n  did you mean uart_tx_pin\?"),
    Bad("unknown name to unset", (*M, "--unset", "mqtt_cert.0"), r"'mqtt_cert.0' is not the name.*\n  did you mean mqtt_cert\?"),
    Bad("absent item to unset", (*M, "--unset", "mqtt_ca"), r"mqtt_ca: is not in this firmware, so it cannot be removed"),
    Bad("certificate as text", (*M, "--set", "mqtt_ca=abc"), r"--set mqtt_ca: .*not a text\n  write --set mqtt_ca=@FILE"),
    Bad("empty path of a certificate", (*M, "--mqtt-ca", ""), r"--mqtt-ca: the path is empty"),
    Bad("unknown chip", (*M, *SET_BAUD, "--chip", "esp33"), r"--chip: 'esp33' is not the name of a chip\n  did you mean esp32"),
    Bad("unsupported chip", (*M, *SET_BAUD, "--chip", "esp32h2"), r"--chip: ESP32-H2 is not a chip that ESP-AT supports"),
    Bad("another chip", (*M, *SET_BAUD, "--chip", "esp32"), r"--chip esp32: in.bin is a firmware for esp32c3"),
    Bad("module without platform", (*M, *SET_BAUD, "--module", "MINI-1"), r"--module MINI-1: is not PLATFORM/MODULE\n  write it as"),
    Bad("module of an unknown platform", (*M, *SET_BAUD, "--module", "ESP33/X"), r"--module: 'ESP33' is not the name of a chip"),
    Bad("chip and module differ", (*M, *SET_BAUD, "--chip", "esp32c3", "--module", "ESP32/X"), r"--chip esp32c3 and --module ESP32/X name different"),
    Bad("no parameters there", (*M, *SET_BAUD, "-os", "0x60000"), r"--parameter-offset 0x60000: in.bin has no parameters there\n  leave it out"),
    Bad("parameters below zero", (*M, *SET_BAUD, "-os", "-1"), r"--parameter-offset -0x1: in.bin has no parameters there"),
    Bad("parameters past the end", (*M, *SET_BAUD, "-os", "64M"), r"--parameter-offset 0x4000000: in.bin has no parameters"),
    Bad("parameters inside the record", (*M, *SET_BAUD, "-os", hex(PLACE["factory_param"] + 4)), r"--parameter-offset 0x25004.*no parameters", legacy),
    Bad("parameters beside the sector", (*M, *SET_BAUD, "-os", "0x160010"), r"--parameter-offset 0x160010: is not on a 4 KB boundary.*\n  .*0x160000", patched(0x160010, builders.factory_param(), legacy_bytes)),
    Bad("offset that is no number", (*M, *SET_BAUD, "-os", "here"), r"--parameter-offset: 'here' is not a number\n  write 4096"),
    Bad("parameter offset in a lone partition", (*M, *SET_BAUD, "-os", "0"), r"--parameter-offset: in.bin is a partition alone", lone_nvs),
    Bad("table offset in a lone partition", (*M, *SET_BAUD, "--partition-table-offset", "0x8000"), r"--partition-table-offset: in.bin is a partition alone", lone_record()),
    Bad("no table there", (*M, *SET_BAUD, "--partition-table-offset", "0x9000"), r"--partition-table-offset 0x9000: in.bin: no sound partition table"),
    Bad("table past the end", (*M, *SET_BAUD, "--partition-table-offset", "32M"), r"--partition-table-offset 0x2000000: in.bin: no sound"),
    Bad("the secondary table as primary", (*M, *SET_BAUD, "--partition-table-offset", "0x1E000"), r"no application partition\n  "),
    Bad("diff of one", ("diff", "in.bin"), r"Missing argument 'B'"),
    Bad("diff with a missing file", ("diff", "in.bin", "none.bin"), r"none.bin: no such file\n  give the path of an existing firmware"),
]  # fmt: skip

# --- values ----------------------------------------------------------------------------------------------

VALUES = [
    Bad("baud that is text", (*M, "-b", "fast"), r"--baud: 'fast' is not a number\n  write 4096, 0x1000"),
    Bad("baud that is empty", (*M, "-b", ""), r"--baud: '' is not a number"),
    Bad("baud with a fraction", (*M, "-b", "9600.5"), r"--baud: '9600.5' is not a number"),
    Bad("baud with an exponent", (*M, "-b", "1e6"), r"--baud: '1e6' is not a number"),
    Bad("baud too low", (*M, "-b", "79"), r"uart_baudrate \(--baud\): 79 is outside 80 to 5000000\n  "),
    Bad("baud too high", (*M, "--set", "uart_baudrate=5000001"), r"uart_baudrate: 5000001 is outside 80 to 5000000"),
    Bad("baud below zero", (*M, "-b", "-9600"), r"uart_baudrate \(--baud\): -9600 is outside"),
    Bad("number of 100 digits", (*M, "-b", "9" * 100), r"--baud: '9+' is not a number"),
    Bad("impossible even by force", (*M, "-b", "79", "--force"), r"79 is outside 80 to 5000000"),
    Bad("power past its type", (*M, "-tp", "200"), r"max_tx_power \(--tx-power\): 200 does not fit its type i8\n  it holds -128 to 127"),
    Bad("power too low", (*M, "-tp", "39"), r"max_tx_power \(--tx-power\): 39 .*40 (to|and|…) ?84(.|\n)*--force"),
    Bad("power too high", (*M, "-tp", "85"), r"max_tx_power \(--tx-power\): 85(.|\n)*--force"),
    Bad("channel 0", (*M, "-sc", "0"), r"start_channel \(--start-channel\): 0 is outside 1 to 14"),
    Bad("channel 15", (*M, "-cn", "15"), r"channel_num \(--channel-number\): 15 is outside 1 to 14"),
    Bad("channels past the last", (*M, "-sc", "10"), r"start_channel \(--start-channel\): 13 channels from channel 10 end at 22, past 14\n  .*at most 5"),
    Bad("channels past the country's", (*M, "-cc", "US", "-cn", "12"), r"channel_num \(--channel-number\): channel 12 is past 11, the last one of US\n  set channel_num to 11; --force"),
    Bad("country of three letters", (*M, "-cc", "USA"), r"country_code \(--country-code\): 'USA'"),
    Bad("country of one letter", (*M, "-cc", "U"), r"country_code \(--country-code\): 'U'"),
    Bad("country in small letters", (*M, "-cc", "us"), r"country_code \(--country-code\): 'us'(.|\n)*US"),
    Bad("empty country", (*M, "-cc", ""), r"country_code \(--country-code\): ''"),
    Bad("unknown country", (*M, "-cc", "XZ"), r"'XZ' is not a known code(.|\n)*--force"),
    Bad("UART that no chip has", (*M, "-un", "9"), r"uart_port \(--uart-num\): UART 9 cannot be the AT port of ESP32-C3\n  choose"),
    Bad("the log UART", (*M, "-un", "0"), r"uart_port \(--uart-num\): UART 0 of ESP32-C3 is the log port(.|\n)*choose 1; --force"),
    Bad("GPIO 99", (*M, "-tx", "99"), r"uart_tx_pin \(--tx-pin\): ESP32-C3 has no GPIO 99\n  choose one of"),
    Bad("GPIO -2", (*M, "-tx", "-2"), r"uart_tx_pin \(--tx-pin\): -2 is not a GPIO\n  -1 means unused"),
    Bad("GPIO by name", (*M, "-tx", "GPIO5"), r"--tx-pin: 'GPIO5' is not a number"),
    Bad("the pin of another signal", (*M, "-tx", "6"), r"uart_tx_pin \(--tx-pin\): uart_rx_pin, which stays as it is, is GPIO 6 too"),
    Bad("one pin twice", (*M, "-tx", "3", "-rx", "3"), r"is GPIO 3 too, and two signals cannot share a pin"),
    Bad("a pin of USB", (*M, "-tx", "18"), r"uart_tx_pin \(--tx-pin\): GPIO 18 of ESP32-C3 is a pin of USB(.|\n)*--force"),
    Bad("a pin of the flash", (*M, "-rts", "12"), r"uart_rts_pin \(--rts-pin\): GPIO 12 of ESP32-C3 is a pin of the flash"),
    Bad("a strapping pin", (*M, "-tx", "9"), r"uart_tx_pin \(--tx-pin\): GPIO 9 of ESP32-C3 is a strapping pin"),
    Bad("an input-only pin", (*M, "-tx", "34"), r"GPIO 34 of ESP32 is input-only and cannot be TX\n  choose", lone_record("PLATFORM_ESP32")),
    Bad("a pin that the chip lacks", (*M, "-tx", "24"), r"ESP32 has no GPIO 24", lone_record("PLATFORM_ESP32")),
    Bad("ESP8266 with other pins", (*M, "-tx", "5", "-rx", "4"), r"the AT UART of ESP8266 is TX 15 with RX 13 or .*, not TX 5 with RX 4", lone_record("PLATFORM_ESP8266")),
    Bad("several at once", (*M, "-tx", "99", "-b", "1", "-cc", "USA"), r"GPIO 99 \(choose.*\)\n  (.|\n)*'USA'|'USA'(.|\n)*GPIO 99"),
    Bad("module name too long for the record", (*M, "-mn", "M" * 32), r"module_name \(--module-name\): .*32 bytes(.|\n)*31", legacy),
    Bad("module name too long for NVS", (*M, "-mn", "M" * 4001), r"module_name \(--module-name\): .*4001 bytes"),
    Bad("sys_store 2", (*M, "--set", "sys_store=2"), r"sys_store: 2 is neither 0 nor 1\n  as AT\+SYSSTORE"),
    Bad("sys_store in the record", (*M, "--set", "sys_store=1"), r"sys_store: this firmware's legacy layout cannot hold it: .*no such field", legacy),
    Bad("platform in NVS", (*M, "-pf", "PLATFORM_ESP32"), r"platform \(--platform\): this firmware's modern layout cannot hold it.*\n  leave it out"),
    Bad("platform of another chip", (*M, "-pf", "PLATFORM_ESP32"), r"platform \(--platform\): PLATFORM_ESP32 is not the platform.*\n  write PLATFORM_ESP32C3; --force", legacy),
    Bad("port in a record of version 1", (*M, "-un", "0"), r"uart_port \(--uart-num\): .*cannot hold it: its record is of version 1", data(builders.factory_param(version=1))),
    Bad("another version of the record", (*M, "--set", "version=2"), r"version: cannot become 2, the record is of version 3", legacy),
    Bad("a field of the record to remove", (*M, "--unset", "uart_cts_pin"), r"uart_cts_pin: the legacy layout has fixed fields.*\n  pins take -1", legacy),
    Bad("a GATT row that is none", (*M, "--gatts-cfg1", "hello"), r"--gatts-cfg1: GATT row 1: 1 fields, not 7\n  a row is index,uuid_len"),
    Bad("a GATT row that overruns", (*M, "--gatts-cfg2", f"2,16,0xC300,0x01,60,60,{'AB' * 60}"), r"--gatts-cfg2: GATT row 2 has more than 99 bytes"),
    Bad("a GATT value of odd length", (*M, "--gatts-cfg2", "2,16,0xC300,0x01,1,1,3"), r"--gatts-cfg2: GATT row 2: value of 1 hexadecimal digits"),
    Bad("a GATT uuid that is too short", (*M, "--gatts-cfg2", "2,128,0xC300,0x01,1,1,30"), r"--gatts-cfg2: GATT row 2: uuid 0xC300 has not 128 bits\n  write 32 digits"),
    Bad("a GATT row after a gap", (*M, "--set", "cfg9=9,16,0x2901,0x01,1,1,31"), r"--set cfg9: without cfg3, the firmware does not read cfg9"),
    Bad("a GATT row from the middle", (*M, "--unset", "cfg1"), r"--unset cfg1: without cfg1, the firmware does not read cfg2"),
    Bad("GATT row 300", (*M, "--set", "cfg300=x"), r"'cfg300' is not the name of a GATT row\n  the rows are cfg0 to cfg254"),
    Bad("a GATT row from the middle, legacy", (*M, "--unset", "cfg1"), r"cfg1: only the last row of a GATT table can be removed\n  remove cfg2", legacy),
    Bad("a GATT row after a gap, legacy", (*M, "--gatts-cfg9", "9,16,0x2901,0x01,1,1,31"), r"cfg9 \(--gatts-cfg9\): the table ends with row 2\n  add rows in their order", legacy),
    Bad("a GATT row that is none, legacy by force", (*M, "--gatts-cfg1", "hello", "--force"), r"--gatts-cfg1: GATT row: 1 fields, not 7", legacy),
    Bad("a GATT row without its partition", (*M, "--gatts-cfg0", ROWS[0]), r"cfg0 \(--gatts-cfg0\): .*cannot hold it: this is its partition factory_param alone\n  give the whole image", lone_record()),
]  # fmt: skip

# --- certificates and keys -------------------------------------------------------------------------------

CA, CERT, KEY = ("--mqtt-ca", "ca.pem"), ("--mqtt-cert", "cert.pem"), ("--mqtt-key", "key.pem")
PKI = [
    Bad("no such certificate", (*M, *CA), r"--mqtt-ca: ca.pem: no such file\n  give the path of an existing certificate"),
    Bad("no such certificate by --set", (*M, "--set", "mqtt_ca=@ca.pem"), r"--set mqtt_ca: ca.pem: no such file"),
    Bad("a folder as a certificate", (*M, *CA), r"--mqtt-ca: ca.pem: is a folder", special(Path.mkdir, "ca.pem")),
    Bad("an empty file", (*M, *CA), r"mqtt_ca \(--mqtt-ca ca.pem\): is empty", pem("ca.pem", bytes)),
    Bad("text", (*M, *CA), r"mqtt_ca \(--mqtt-ca ca.pem\): is neither PEM nor DER", pem("ca.pem", lambda: b"hello\n")),
    Bad("a key as a certificate", (*M, *CERT), r"mqtt_cert \(--mqtt-cert cert.pem\): is a private key, not a certificate\n  give the certificate", pem("cert.pem", key)),
    Bad("a certificate as a key", (*M, *KEY), r"mqtt_key \(--mqtt-key key.pem\): is a certificate, not a private key", pem("key.pem", cert)),
    Bad("wrong kind even by force", (*M, *KEY, "--force"), r"is a certificate, not a private key", pem("key.pem", cert)),
    Bad("a signing request", (*M, *CERT), r"is a certificate signing request\n  give the certificate that was issued", pem("cert.pem", csr)),
    Bad("a public key", (*M, *KEY), r"is a public key", pem("key.pem", public_key)),
    Bad("a key with a password", (*M, *KEY), r"mqtt_key .*password", pem("key.pem", locked_key)),
    Bad("an expired certificate", (*M, *CA), r"mqtt_ca .*expired(.|\n)*--force", pem("ca.pem", lambda: builders.certificate(1, ca=True, days=(-9, -2)))),
    Bad("a certificate of tomorrow", (*M, *CA), r"mqtt_ca .*is not valid before 20.*\n.*clock; --force", pem("ca.pem", lambda: builders.certificate(1, ca=True, days=(2, 9)))),
    Bad("a key of another certificate", (*M, *CERT, *KEY), r"mqtt: .*key(.|\n)*--force", both(pem("cert.pem", lambda: builders.certificate(2)), pem("key.pem", key))),
    Bad("PEM without a line end", (*M, *CA), r"mqtt_ca .*: has no line end after its last line\n  add one; --force", pem("ca.pem", lambda: builders.certificate(1, ca=True).rstrip())),
    Bad("PEM cut off", (*M, *CA), r"mqtt_ca .*cut off: there is no END CERTIFICATE\n  copy the whole file", pem("ca.pem", lambda: cert()[:200])),
    Bad("DER cut off", (*M, "--server-ca", "ca.pem"), r"server_ca .*cut off: 200 of \d+ bytes of DER", pem("ca.pem", lambda: builders.certificate(0, der=True)[:200])),
    Bad("damaged base64", (*M, *CA), r"mqtt_ca .*(damaged|cannot be read)", pem("ca.pem", lambda: cert()[:60] + b"!!!!" + cert()[64:])),
    Bad("UTF-16", (*M, *CA), r"mqtt_ca .*UTF-16", pem("ca.pem", lambda: cert().decode().encode("utf-16"))),
    Bad("a file of 2 MB", (*M, *CA), r"ca.pem: larger than 1048576 bytes", pem("ca.pem", lambda: b"x" * (2 << 20))),
    Bad("too large for its partition", (*M, *CA, "--force"), r"mqtt_ca \(--mqtt-ca ca.pem\): \d+ bytes, but its partition has 8192\n  \d+ bytes too many", pem("ca.pem", chain(8192), legacy)),
    Bad("too large for mfg_nvs", (*M, *CA), r"in.bin: key 'mqtt_ca' does not fit: .* bytes too many\n  remove an item", pem("ca.pem", chain(9000), full_nvs)),
    Bad("no place for it", (*M, *CA), r"mqtt_ca .*: this firmware's legacy layout cannot hold it: this is its partition factory_param alone\n  give", pem("ca.pem", cert, lone_record())),
    Bad("an item that came later", (*M, "--set", "https_ca.0=@ca.pem"), r"https_ca.0: .*cannot hold it: its tables list no partition https_ca", pem("ca.pem", cert, legacy)),
    Bad("a damaged list of certificates", (*M, *CA), r"mqtt_ca \(--mqtt-ca ca.pem\): partition mqtt_ca is damaged: PKI list", pem("ca.pem", cert, patched(PLACE["mqtt_ca"] + 4, b"\xff\xff", legacy_bytes))),
    Bad("a damaged GATT table", (*M, "--gatts-cfg0", ROWS[0]), r"cfg0 \(--gatts-cfg0\): partition ble_data is damaged: ble_data", patched(PLACE["ble_data"] + 6, b"\0\0", legacy_bytes)),
]  # fmt: skip

# --- profiles --------------------------------------------------------------------------------------------

PROFILES = [
    Bad("no such profile", PROFILE, r"p.yaml: no such file\n  give the path of an existing profile"),
    Bad("a folder as profile", PROFILE, r"p.yaml: is a folder", special(Path.mkdir, "p.yaml")),
    Bad("an empty profile", PROFILE, r"p.yaml: is empty\n  give settings:", profile("")),
    Bad("a profile that is no YAML", PROFILE, r"p.yaml: line 1, column \d+: not YAML", profile("settings: {")),
    Bad("tabs", PROFILE, r"p.yaml: line 2, column 1: not YAML.*\n  indent with spaces", profile("settings:\n\tuart_baudrate: 1\n")),
    Bad("a list as profile", PROFILE, r"p.yaml: is not a profile\n  it must hold settings:", profile("- a\n- b\n")),
    Bad("a binary as profile", PROFILE, r"p.yaml: not UTF-8", profile(b"\xff\xfe\0")),
    Bad("a huge profile", PROFILE, r"p.yaml: larger than 65536 bytes", profile("#" * 70000)),
    Bad("an unknown section", PROFILE, r"p.yaml: line 1: unknown key 'seting'\n  did you mean settings\?", profile("seting:\n  uart_baudrate: 1\n")),
    Bad("a setting outside of its section", PROFILE, r"p.yaml: line 1: unknown key 'uart_baudrate'\n  uart_baudrate belongs under settings:", profile("uart_baudrate: 1\n")),
    Bad("an unknown setting", PROFILE, r"p.yaml: line 2: unknown key 'baud' in settings\n  did you mean uart_baudrate\?", profile("settings:\n  baud: 9600\n")),
    Bad("an item under settings", PROFILE, r"unknown key 'mqtt_ca' in settings\n  mqtt_ca belongs under pki:", profile("settings:\n  mqtt_ca: a.pem\n")),
    Bad("a setting twice", PROFILE, r"p.yaml: line 3: 'uart_baudrate' again, first in line 2", profile("settings:\n  uart_baudrate: 1\n  uart_baudrate: 2\n")),
    Bad("Norway", PROFILE, r"p.yaml: line 1: country_code: YAML takes 'NO' for a truth value\n  quote it: 'NO'", profile("settings: {country_code: NO}")),
    Bad("an octal number", PROFILE, r"p.yaml: line 1: uart_tx_pin: YAML takes 017 for an octal", profile("settings: {uart_tx_pin: 017}")),
    Bad("a setting without value", PROFILE, r"p.yaml: line 1: uart_tx_pin: has no value", profile("settings: {uart_tx_pin: }")),
    Bad("a list as value", PROFILE, r"p.yaml: line 1: uart_tx_pin: must be one value, not a list", profile("settings: {uart_tx_pin: [1]}")),
    Bad("an anchor", PROFILE, r"p.yaml: line 1: an anchor or alias", profile("settings: &a {uart_tx_pin: 3}")),
    Bad("an alias bomb", PROFILE, r"p.yaml: line 1: an anchor or alias", profile("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n")),
    Bad("a tag", PROFILE, r"p.yaml: line 1: the tag", profile("settings: !!python/object:os.system {x: 1}")),
    Bad("two documents", PROFILE, r"p.yaml: line 2: a second document", profile("settings: {uart_tx_pin: 3}\n---\nsettings: {}\n")),
    Bad("a value out of range", PROFILE, r"uart_baudrate \(p.yaml\): 1 is outside 80 to 5000000", profile("settings: {uart_baudrate: 1}")),
    Bad("a profile that asks for nothing", PROFILE, r"nothing to change was asked for", profile("settings: {}\n")),
    Bad("a certificate that is not there", PROFILE, r"p.yaml: mqtt_ca: .*certs/ca.pem: no such file", profile("pki: {mqtt_ca: certs/ca.pem}")),
    Bad("an empty path", PROFILE, r"p.yaml: line 1: mqtt_ca: has no path of a file", profile("pki: {mqtt_ca: ''}")),
    Bad("an unknown item", PROFILE, r"unknown key 'mqtt_cer' in pki\n  did you mean mqtt_cert\?", profile("pki: {mqtt_cer: a.pem}")),
    Bad("a GATT table that is not there", PROFILE, r"g.csv: no such file\n  give the path of an existing GATT table", profile("gatts: g.csv")),
    Bad("an empty GATT table", PROFILE, r"g.csv: holds 0 GATT rows\n  a table has 1 to 255", both(profile("gatts: g.csv"), data(b"index,uuid_len\n", "g.csv"))),
    Bad("an endless GATT table", PROFILE, r"g.csv: GATT table: more than 255 rows", both(profile("gatts: g.csv"), data(f"{ROWS[0]}\n".encode() * 300, "g.csv"))),
    Bad("a GATT table that is no text", PROFILE, r"g.csv: is not a text file in UTF-8", both(profile("gatts: g.csv"), data(b"\xff\xfe", "g.csv"))),
    Bad("a GATT table with a bad row", PROFILE, r"g.csv: GATT row 1: 1 fields, not 7", both(profile("gatts: g.csv"), data(f"{ROWS[0]}\nhello\n".encode(), "g.csv"))),
]  # fmt: skip

# --- files that are no firmware --------------------------------------------------------------------------

IMAGE_HINT = r"\n  give the release's folder or \.zip, its factory_XXX\.bin, or its mfg_nvs\.bin"
NOISE = random.Random(7).randbytes(2 << 20)
FILES = [
    Bad("no such input", (*M, *SET_BAUD), r"in.bin: no such file\n  give the path of an existing firmware", nothing),
    Bad("input below a file", ("modify-bin", "-in", "in.bin/x", *SET_BAUD), r"in.bin/x: (no such file|cannot be read)"),
    Bad("a name with line ends", ("modify-bin", "-in", "a\nb\x1b[2J", *SET_BAUD), r"a\nb\\x1b\[2J: no such file"),
    Bad("an empty file", (*M, *SET_BAUD), r"in.bin: is empty", data(b"")),
    Bad("one byte", (*M, *SET_BAUD), r"in.bin: is not an ESP-AT firmware", data(b"\x01")),
    Bad("blank flash", (*M, *SET_BAUD), r"in.bin: holds only 0xFF: it is blank flash" + IMAGE_HINT, data(b"\xff" * (4 << 20))),
    Bad("zeros", (*M, *SET_BAUD), r"in.bin: holds only zeros, no firmware" + IMAGE_HINT, data(bytes(4 << 20))),
    Bad("text", (*M, *SET_BAUD), r"in.bin: is a text file, not a firmware" + IMAGE_HINT, data(b"hello\n" * 999)),
    Bad("an ELF", (*M, *SET_BAUD), r"in.bin: is an ELF file, the application with its debug symbols" + IMAGE_HINT, data(b"\x7fELF\1\1\1" + NOISE[:9999])),
    Bad("an application alone", (*M, *SET_BAUD), r"in.bin: is an application alone \(esp-at.bin\); it holds no settings" + IMAGE_HINT, lambda folder: (folder / "in.bin").write_bytes(builders.esp_image(size=1 << 20))),
    Bad("a bootloader alone", (*M, *SET_BAUD), r"in.bin: is a bootloader alone; it holds no settings" + IMAGE_HINT, lambda folder: (folder / "in.bin").write_bytes(builders.esp_image(app=False))),
    Bad("a partition table alone", (*M, *SET_BAUD), r"in.bin: is a partition table alone.*\n  see it with 'esp-at-tool partition show'", data(builders.PRIMARY.to_bytes())),
    Bad("a certificate partition alone", (*M, *SET_BAUD), r"in.bin: is one certificate partition of an older firmware alone", lambda folder: (folder / "in.bin").write_bytes(builders.pki_list(cert()))),
    Bad("ble_data alone", (*M, *SET_BAUD), r"in.bin: is the ble_data partition of an older firmware alone", data(builders.ble_data())),
    Bad("gzip", (*M, *SET_BAUD), r"in.bin: is an archive, but not a .zip\n  unpack it", data(b"\x1f\x8b\x08" + NOISE[:999])),
    Bad("7z", (*M, *SET_BAUD), r"in.bin: is an archive, but not a .zip", data(b"7z\xbc\xaf\x27\x1c" + NOISE[:999])),
    Bad("Intel HEX", (*M, *SET_BAUD), r"in.bin: is an Intel HEX file", data(b":020000040000FA\r\n" * 99)),
    Bad("encrypted flash", (*M, *SET_BAUD), r"in.bin: has no partition table at 0x8000, and what stands there looks random: a dump of a chip with flash encryption", data(NOISE)),
    Bad("encrypted flash behind a plain bootloader", (*M, *SET_BAUD), r"looks random", lambda folder: (folder / "in.bin").write_bytes(builders.esp_image(app=False).ljust(0x8000, b"\xff") + NOISE[0x8000:])),
    Bad("another program's image", (*M, *SET_BAUD), r"in.bin: is not an ESP-AT firmware: no partition table at 0x8000", data(b"MZ\0\1" * 0x40000)),
    Bad("too large for any flash", (*M, *SET_BAUD), r"in.bin: larger than 16777216 bytes", data(bytes(17 << 20))),
    Bad("blank parameters", (*M, *SET_BAUD), r"in.bin: factory_param: blank", patched(PLACE["factory_param"], b"\xff" * 4096, legacy_bytes)),
    Bad("parameters of another kind", (*M, *SET_BAUD), r"in.bin: factory_param: starts with 0x0000", patched(PLACE["factory_param"], bytes(4096), legacy_bytes)),
    Bad("a record of version 9", (*M, *SET_BAUD), r"in.bin: factory_param: version 9 is not known", data(builders.factory_param(version=9))),
    Bad("half a record", (*M, *SET_BAUD), r"in.bin: factory_param: 2048 bytes\n  the record has 4096", data(builders.factory_param()[:2048])),
    Bad("an mfg_nvs with a damaged page", (*M, *SET_BAUD), r"in.bin: mfg_nvs is damaged: .*CRC(.|\n)*nvs check(.|\n)*--force", damaged_nvs),
    Bad("an mfg_nvs that loses an entry", (*M, *SET_BAUD), r"in.bin: mfg_nvs is damaged: .*uart_baudrate|in.bin: mfg_nvs is damaged: .*CRC", lost_entry),
]  # fmt: skip

TRUNCATED = [
    Bad(f"cut off at {size:#x}", (*M, *SET_BAUD), message, cut(size))
    for size, message in {
        1: r"in\.bin: begins like a firmware and is cut off\n  download it again",
        0x100: r"in\.bin: begins like a firmware and is cut off",
        0x7FFF: r"in\.bin: is a bootloader alone",
        0x8010: r"in\.bin: is a bootloader alone",
        0x8060: r"in\.bin: no sound partition table",
        0x9000: r"in\.bin: is cut off: it ends at 0x9000, before its application at 0x60000",
        0x1E400: r"in\.bin: is cut off",
        0x1F800: r"in\.bin: is cut off",
        0x30000: r"in\.bin: is cut off",
        0x3E000: r"in\.bin: is cut off",
        APP: r"in\.bin: is cut off",
        APP + 0x400: r"in\.bin: is cut off or damaged: the application at 0x60000 is not whole",
        0x100000 - 0x1000: r"in\.bin: is cut off: it ends at 0xff000, in the middle of blank flash",
        0x100000: r"in\.bin: (is cut off|its partition tables contradict)",
        0x200000: r"in\.bin: (is cut off|its partition tables contradict)",
        0x3FFFFF: r"in\.bin: is cut off",
    }.items()
] + [
    # The tables and the parameters after the application, as on the ESP8266.
    Bad("cut off inside a legacy record", (*M, *SET_BAUD), r"in\.bin: is cut off: it ends at .*factory_param", lambda folder: moved_legacy(folder, "factory_param", 0x800)),
    Bad("cut off inside a list of certificates", (*M, *SET_BAUD), r"in\.bin: is cut off: it ends at .*mqtt_ca", lambda folder: moved_legacy(folder, "mqtt_ca", 0x40)),
    Bad("cut off inside mfg_nvs", (*M, *SET_BAUD), r"in\.bin: is cut off: it ends at 0x31020, and mfg_nvs at 0x50000", lambda folder: moved_modern(folder, 0x20)),
]  # fmt: skip


def small_app_first(secondary: PartitionTable, contents: dict[int, bytes]) -> bytearray:
    """An image whose application lies before ``at_customize``, which begins at 0x30000."""
    rows = (
        Partition("ota_0", 0, 0x10, 0x10000, 0x20000),
        Partition("at_customize", 0x40, 0, 0x30000, 0x50000),
    )
    moved = PartitionTable(
        tuple(Partition(row.name, row.type, row.subtype, row.offset + 0x12000, row.size) for row in secondary)
    )
    flash = bytearray(b"\xff" * (1 << 20))
    parts = {
        0: builders.esp_image(app=False),
        0x8000: PartitionTable(rows).to_bytes(),
        0x10000: builders.esp_image(),
    }
    parts |= {0x30000: moved.to_bytes(), **{at + 0x12000: part for at, part in contents.items()}}
    for at, part in parts.items():
        flash[at : at + len(part)] = part
    return flash


def moved_legacy(folder: Path, name: str, size: int) -> None:
    contents = {at: part for at, (_, part) in builders.legacy_parts().items() if 0x1F000 <= at < 0x47000}
    flash = small_app_first(builders.LEGACY_SECONDARY, contents)
    (folder / "in.bin").write_bytes(flash[: PLACE[name] + 0x12000 + size])


def moved_modern(folder: Path, size: int) -> None:
    contents = {MFG: modern_bytes()[MFG : MFG + builders.MFG_SIZE]}
    flash = small_app_first(builders.SECONDARY, contents)
    (folder / "in.bin").write_bytes(flash[: MFG + 0x12000 + size])


# --- tables ----------------------------------------------------------------------------------------------

TABLES = [
    Bad("a damaged row", (*M, *SET_BAUD), r"in.bin: no sound partition table at 0x8000: row 1 .*\n  download it again", patched(0x8020, b"\0\0")),
    Bad("a wrong checksum", (*M, *SET_BAUD), r"in.bin: no sound partition table at 0x8000: .*checksum", both(primary_with(), lambda folder: flip(folder, 0x8000 + 8))),
    Bad("no application", (*M, *SET_BAUD), r"in.bin: no sound partition table at 0x8000: .*no application partition", table(*(row for row in builders.PRIMARY if row.type != 0))),
    Bad("overlapping partitions", (*M, *SET_BAUD), r"in.bin: its partition tables contradict themselves: .*overlaps", primary_with(nvs=(0x10000, 0xF000))),
    Bad("a partition past the flash", (*M, *SET_BAUD), r"contradict themselves: ota_1 at 0x230000: ends at 0x430000, past the flash of 0x400000", primary_with(ota_1=(0x230000, 0x200000))),
    Bad("a partition over the table", (*M, *SET_BAUD), r"contradict themselves: otadata at 0x8000", primary_with(otadata=(0x8000, 0x2000))),
    Bad("contradictions even by force", (*M, *SET_BAUD, "--force"), r"contradict themselves", primary_with(nvs=(0x10000, 0xF000))),
    Bad("a damaged secondary table", (*M, *SET_BAUD), r"in.bin: the secondary partition table cannot be read: at 0x1e000", patched(SECONDARY, b"\0\0")),
    Bad("no secondary table", (*M, *SET_BAUD), r"in.bin: the secondary partition table cannot be read: nothing is at 0x1e000", patched(SECONDARY, b"\xff" * 0x1000)),
    Bad("secondary partitions that overlap", (*M, *SET_BAUD), r"contradict themselves: .*overlaps", table(Partition("mfg_nvs", 1, 2, MFG, builders.MFG_SIZE), Partition("fatfs", 1, 0x81, 0x30000, 0x19000), at=SECONDARY)),
    Bad("parameters in no flash", (*M, *SET_BAUD), r"in.bin: its tables place mfg_nvs at 0x1f000 to 0xfff1f000, in no flash", table(Partition("mfg_nvs", 1, 2, MFG, 0xFFF00000), at=SECONDARY)),
    Bad("another firmware", (*M, *SET_BAUD), r"in.bin: is no ESP-AT firmware: its tables list neither mfg_nvs nor factory_param\n  they list .*fatfs", no_partition_of_ours),
    Bad("parameters too small for NVS", (*M, *SET_BAUD), r"in.bin: ", table(Partition("mfg_nvs", 1, 2, MFG, 0x800), at=SECONDARY)),
]  # fmt: skip


def flip(folder: Path, at: int) -> None:
    flash = bytearray((folder / "in.bin").read_bytes())
    flash[at] ^= 1
    (folder / "in.bin").write_bytes(flash)


# --- releases and archives -------------------------------------------------------------------------------

RELEASES = [
    Bad("an empty folder", FOLDER, r"in: holds neither flasher_args.json nor download.config\n  give the folder of a release", lambda folder: (folder / "in").mkdir()),
    Bad("two releases", FOLDER, r"in: holds 2 releases\n  give one of in/a, in/b", two_releases),
    Bad("a missing part", FOLDER, r"in: flasher_args.json names esp-at.bin, which is missing\n  give the whole release", changed_release(lambda path: (path / "esp-at.bin").unlink())),
    Bad("a list that is no JSON", FOLDER, r"in: flasher_args.json: is not JSON", changed_release(lambda path: (path / "flasher_args.json").write_text("{"))),
    Bad("a list that is no text", FOLDER, r"in: flasher_args.json is not a text file in UTF-8", changed_release(lambda path: (path / "flasher_args.json").write_bytes(b"\xff"))),
    Bad("a list of nothing", FOLDER, r"in: download.config: names no file to flash", changed_release(lambda path: (path / "flasher_args.json").unlink() or (path / "download.config").write_text(""))),
    Bad("a part outside of the release", FOLDER, r"in: download.config: path '../x.bin' is not one inside its folder", config("0x300000 ../x.bin")),
    Bad("two parts at one address", FOLDER, r"in: download.config: both .* and .* belong at 0x60000", config("0x60000 at_customize.bin")),
    Bad("a part upon another", FOLDER, r"in: at_customize.bin at 0x60100 overlaps the end of esp-at.bin", config("0x60100 at_customize.bin")),
    Bad("a part past the flash", FOLDER, r"in: at_customize.bin, 3072 bytes at 0xfffffff0, goes past every flash", config("0xfffffff0 at_customize.bin")),
    Bad("a folder as part", FOLDER, r"in: download.config names bootloader, which is missing", config("0x300000 bootloader")),
    Bad("an application in the place of the table", FOLDER, r"in: .*partition table", changed_release(lambda path: (path / "partition_table/partition-table.bin").write_bytes(builders.esp_image()))),
    Bad("a release without its secondary table", FOLDER, r"in: the secondary partition table cannot be read", changed_release(lambda path: (path / "at_customize.bin").write_bytes(b"\xff" * 0xC00))),
    Bad("a merged image of another release", FOLDER, r"in: factory/factory_MINI-1.bin has another table at 0x8000", changed_release(lambda path: (path / "factory/factory_MINI-1.bin").write_bytes(b"\xff" * 0x10000))),
    Bad("a damaged mfg_nvs in a release", FOLDER, r"in: mfg_nvs is damaged", changed_release(lambda path: (path / "customized_partitions/mfg_nvs.bin").write_bytes(b"\0" * 0x1F000))),
    Bad("an empty .zip", (*M, *SET_BAUD), r"in.bin: is a .zip without a firmware in it", zipped({})),
    Bad("a .zip without a firmware", (*M, *SET_BAUD), r"in.bin: is a .zip without a firmware in it", zipped({"readme.txt": b"x"})),
    Bad("a .zip in a .zip", (*M, *SET_BAUD), r"in.bin: is a .zip that holds another .zip \(a/r.zip\)\n  unpack it", zipped({"a/r.zip": b"PK\3\4"})),
    Bad("a .zip with images only", (*M, *SET_BAUD), r"in.bin: holds neither .*\n  unpack it and give the full image among its files, e.g. factory.bin", zipped({"factory.bin": b"x"})),
    Bad("a .zip of two releases", (*M, *SET_BAUD), r"in.bin: holds 2 releases: a/, b/\n  unpack it", zipped({"a/download.config": b"", "b/download.config": b""})),
    Bad("a .zip cut off", (*M, *SET_BAUD), r"in.bin: is a damaged or cut off .zip", zip_of_release(lambda archive: archive[: len(archive) // 2])),
    Bad("a .zip with a damaged member", (*M, *SET_BAUD), r"in.bin: .* is damaged: .*\n  download it again", zip_of_release(lambda archive: archive.replace(archive[200:240], bytes(40), 1))),
    Bad("a .zip with names that lead out", (*M, *SET_BAUD), r"in.bin: holds the file '../../x', which would lie outside of it", zipped({"download.config": b"", "../../x": b""})),
    Bad("a .zip with backslashes", (*M, *SET_BAUD), r"in.bin: holds the file 'r\\\\download.config', with a backslash", zipped({"r\\download.config": b""})),
    Bad("a .zip with a password", (*M, *SET_BAUD), r"in.bin: .* is encrypted with a password\n  give an archive without one", zip_of_release(lambda archive: with_flag(archive, 1))),
    Bad("a bomb", (*M, *SET_BAUD), r"in.bin: is too large for a release\n  at most 20000 files and 1024 MB", zip_of_release(bomb)),
    Bad("too many files", (*M, *SET_BAUD), r"in.bin: is too large for a release", zipped({str(n): b"" for n in range(20_001)})),
    Bad("a .zip by another method", (*M, *SET_BAUD), r"in.bin: download.config is compressed by method 14\n  pack it again", zipped({"download.config": b"x"}, compression=zipfile.ZIP_LZMA)),
    Bad("a .zip with a missing part", (*M, *SET_BAUD), r"in.bin: flasher_args.json names esp-at.bin, which is missing", zip_of_release(drop="esp-at.bin")),
]  # fmt: skip

# --- outputs ---------------------------------------------------------------------------------------------

IN = ("modify-bin", "-in", "in.bin", *SET_BAUD)
OUTPUTS = [
    Bad("a folder as output", (*IN, "-o", "there"), r"there: is an existing folder\n  give the path of a file", special(Path.mkdir, "there")),
    Bad("a pipe as output", (*IN, "-o", "-"), r"-: there is no output to a pipe\n  give the path of a file"),
    Bad("a new folder as output", (*IN, "-o", "new/"), r"--output new/: is written as a folder\n  give the path of a file"),
    Bad("a missing folder", (*IN, "-o", "none/out.bin"), r"none/out.bin: its folder does not exist\n  create none first"),
    Bad("below a file", (*IN, "-o", "in.bin/out.bin"), r"in.bin/out.bin: its folder does not exist|in.bin/out.bin: cannot be written"),
    Bad("the input as output", (*IN, "-o", "in.bin"), r"--output in.bin: is the input itself\n  use --in-place"),
    Bad("the input by another path", (*IN, "-o", "./in.bin"), r"--output in.bin: is the input itself"),
    Bad("the input through a link", (*IN, "-o", "link"), r"--output link: is the input itself", special(lambda path: path.symlink_to("in.bin"), "link")),
    Bad("the input by another name", (*IN, "-o", "hard"), r"--output hard: is the input itself", lambda folder: (image(folder), (folder / "hard").hardlink_to(folder / "in.bin"))),
    Bad("the default output is the input", ("modify-bin", "-in", "target.bin", *SET_BAUD), r"--output target.bin: is the input itself", lambda folder: (folder / "target.bin").write_bytes(modern_bytes())),
    Bad("a certificate as output", (*IN, *CA, "-o", "ca.pem"), r"ca.pem: is an output and an input at once", pem("ca.pem", cert)),
    Bad("a profile as output", ("modify-bin", "-in", "in.bin", "--profile", "p.yaml", "-o", "p.yaml"), r"p.yaml: is an output and an input at once", profile("settings: {uart_baudrate: 9600}")),
    Bad("a dry run to a folder", (*IN, "--dry-run", "-o", "there"), r"there: is an existing folder", special(Path.mkdir, "there")),
    Bad("the partition over the input", (*IN, "-o", "o", "--mfg-nvs-output", "in.bin"), r"in.bin: is an output and an input at once"),
    Bad("the partition over the output", (*IN, "-o", "o", "--mfg-nvs-output", "o"), r"o: two outputs have this path"),
    Bad("the partition over the input in place", (*IN, "--in-place", "--mfg-nvs-output", "in.bin"), r"in.bin: two outputs have this path"),
    Bad("mfg_nvs of the legacy layout", (*IN, "-o", "o", "--mfg-nvs-output", "m"), r"--mfg-nvs-output: this firmware has the legacy layout.*\n  use --partitions-output", legacy),
    Bad("the partition into a missing folder", (*IN, "-o", "o", "--mfg-nvs-output", "none/m"), r"none/m: its folder does not exist"),
    Bad("partitions into a file", (*IN, "-o", "o", "--partitions-output", "in.bin"), r"in.bin: exists already and is not a folder"),
    Bad("partitions below a missing folder", (*IN, "-o", "o", "--partitions-output", "none/parts"), r"none/parts: its folder does not exist"),
    Bad("partitions into the output", (*IN, "-o", "o", "--partitions-output", "o"), r"o: two outputs have this path"),
    Bad("partitions over the input", ("modify-bin", "-in", "p/mfg_nvs.bin", *SET_BAUD, "-o", "o", "--partitions-output", "p"), r"p/mfg_nvs.bin: is an output and an input at once", lambda folder: ((folder / "p").mkdir(), (folder / "p/mfg_nvs.bin").write_bytes(modern_bytes()[MFG : MFG + builders.MFG_SIZE]))),
    Bad("a release to a folder that is there", ("modify-bin", "-in", "in", *SET_BAUD, "-o", "there"), r"there: is an existing folder\n  give the path of a new folder", special(Path.mkdir, "there", release)),
    Bad("a release to a file that is there", ("modify-bin", "-in", "in", *SET_BAUD, "-o", "there"), r"there: exists already and is not a folder", special(Path.touch, "there", release)),
    Bad("a release into itself", ("modify-bin", "-in", "in", *SET_BAUD, "-o", "in/out"), r"in/out: lies inside the input in", release),
    Bad("a release to itself", ("modify-bin", "-in", "in", *SET_BAUD, "-o", "in/"), r"--output in: is the input itself\n  use --in-place", release),
    Bad("a partition into the release that is read", ("modify-bin", "-in", "in", *SET_BAUD, "-o", "o", "--mfg-nvs-output", "in/customized_partitions/mfg_nvs.bin"), r"in/customized_partitions/mfg_nvs.bin: lies inside the input in", release),
    Bad("in place of nothing", ("modify-bin", "-in", "none.bin", "--in-place", *SET_BAUD), r"none.bin: no such file"),
]  # fmt: skip

SPECIAL = [
    Bad("a pipe as output", (*IN, "-o", "there"), r"there: is a pipe, socket or device\n  give the path of a regular file", special(os.mkfifo, "there")),
    Bad("a device as output", (*IN, "-o", "/dev/null"), r"/dev/null: is a pipe, socket or device"),
    Bad("a link to a device as output", (*IN, "-o", "there"), r"there: is a pipe, socket or device", special(lambda path: path.symlink_to("/dev/null"), "there")),
    Bad("a pipe as input", (*M, *SET_BAUD), r"in.bin: is a pipe, socket or device", lambda folder: os.mkfifo(folder / "in.bin")),
    Bad("an endless device as input", ("modify-bin", "-in", "/dev/zero", *SET_BAUD), r"/dev/zero: is a pipe, socket or device", nothing),
    Bad("a pipe in a release", FOLDER, r"in/esp-at.elf: is a pipe, socket or device", changed_release(lambda path: os.mkfifo(path / "esp-at.elf"))),
    Bad("a link in circles", (*M, *SET_BAUD), r"in.bin: (cannot be read|no such file)", lambda folder: (folder / "in.bin").symlink_to("in.bin")),
    Bad("an output linked in circles", (*IN, "-o", "there"), r"there: ", special(lambda path: path.symlink_to("there"), "there")),
    Bad("an output name that is too long", (*IN, "-o", "x" * 300), r"x+: cannot be written: .*too long"),
]  # fmt: skip

TABLE = [*USAGE, *VALUES, *PKI, *PROFILES, *FILES, *TRUNCATED, *TABLES, *RELEASES, *OUTPUTS]
if os.name == "posix":
    TABLE += SPECIAL


def snapshot(folder: Path) -> dict[str, object]:
    """Everything in a folder: what it is, its permissions, its contents."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        contents = (
            hashlib.sha256(path.read_bytes()).digest() if path.is_file() and not path.is_symlink() else None
        )
        found[path.relative_to(folder).as_posix()] = (status.st_mode, contents)
    return found


def test_there_are_enough_rows() -> None:
    assert len(TABLE) >= 100
    assert len({row.name for row in TABLE}) >= len(TABLE) - 5


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_bad_input(cli, tmp_path, monkeypatch, row: Bad) -> None:
    row.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    result = cli(*row.args)
    assert result.status == row.status, result.out + result.err
    assert result.out == ""
    assert re.search(rf"^error: (.|\n)*({row.message})", result.err), result.err
    assert result.err.startswith("error: ")
    assert len(re.findall(r"^error: ", result.err, re.MULTILINE)) == 1
    for word in ("Traceback", "internal error", "warning:", "Errno"):
        assert word not in result.err
    assert len(result.err.splitlines()) >= 2, "it must say what would be right"
    assert snapshot(tmp_path) == before

    document = json.loads(cli(row.args[0], "--json", *row.args[1:]).out)
    assert set(document) == {"error"}
    assert document["error"]["message"] in result.err or "\n" in document["error"]["message"]
    assert snapshot(tmp_path) == before
