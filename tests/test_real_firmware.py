"""Real releases, patched in every form: what had to change did, nothing else did, and back again."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import builders
import pytest
from conftest import shared_or_skip

from esp_at_tools.firmware.firmware import Firmware

C3_OLD = "ESP32-C3-MINI-1-V2.3.0.0"
C3_NEW = "ESP32-C3-MINI-1-V5.0.1.0-assembled"
ESP32 = "ESP32-WROOM-32-V2.2.0.0"
ESP8266 = "ESP8266-AT-V2.2.1.0"

FLASH_SIZES = {C3_OLD: 4 << 20, C3_NEW: 4 << 20, ESP32: 4 << 20, ESP8266: 2 << 20}
FACTORIES = {
    C3_NEW: ("factory/factory_MINI-1.bin", "factory/factory_MINI-1_unfilled.bin"),
    ESP8266: ("factory/factory_WROOM-02.bin",),
}
CASES = [
    (name, form) for name in FLASH_SIZES for form in ("folder", "zip", "image", *FACTORIES.get(name, ()))
]
UART = {
    C3_OLD: {
        "uart_baudrate": 921600,
        "uart_tx_pin": 0,
        "uart_rx_pin": 1,
        "uart_cts_pin": -1,
        "uart_rts_pin": 10,
    },
    C3_NEW: {
        "uart_baudrate": 921600,
        "uart_tx_pin": 0,
        "uart_rx_pin": 1,
        "uart_cts_pin": -1,
        "uart_rts_pin": 10,
    },
    ESP32: {
        "uart_baudrate": 2000000,
        "uart_port": 2,
        "uart_tx_pin": 25,
        "uart_rx_pin": 26,
        "uart_cts_pin": -1,
    },
    ESP8266: {"uart_baudrate": 74880, "uart_cts_pin": -1, "uart_rts_pin": -1},
}
WIFI = {"max_tx_power": 60, "country_code": "US", "channel_num": 11}
PKI = ("server_ca", "server_cert", "server_key", "client_ca.1", "client_cert.0", "client_key.0",
       "mqtt_ca", "mqtt_cert", "mqtt_key")  # fmt: skip
ADDED = ("wpa2_ca", "wpa2_cert", "wpa2_key")
"""Items that none of the releases has, but every layout has a place for."""
ROW = "1,16,0x2803,0x01,1,1,0A"


# --- an independent look at the tables and at what they list ---------------------------------------------


def rows_at(flash: bytes, offset: int) -> dict[str, tuple[int, int]]:
    """Name → offset and size of the partitions in a table."""
    found = {}
    while flash[offset : offset + 2] == b"\xaa\x50":
        _, _, _, at, size, name, _ = struct.unpack("<2sBBII16sI", flash[offset : offset + 32])
        found[name.rstrip(b"\0").decode()] = (at, size)
        offset += 32
    return found


def places(flash: bytes) -> dict[str, tuple[int, int]]:
    primary = rows_at(flash, 0x8000)
    return {**primary, **rows_at(flash, primary["at_customize"][0])}


def differing_places(before: bytes, after: bytes) -> set[str]:
    """The partitions in which two images differ; what is in none is ``?``."""
    size = max(len(before), len(after))
    before, after = before.ljust(size, b"\xff"), after.ljust(size, b"\xff")
    listed = {name: at for name, at in places(before).items() if name != "at_customize"}
    found = set()
    for sector in range(0, size, 4096):
        if before[sector : sector + 4096] != after[sector : sector + 4096]:
            names = [name for name, (at, length) in listed.items() if at <= sector < at + length]
            found.update(names or ["?"])
    return found


def legacy_record(partition: bytes) -> dict[str, object]:
    """The fields of a factory_param record of version 3."""
    fields = struct.unpack("<HBBbbBB4sibbbbbb2x32s32s", partition[:88])
    names = ("magic", "version", "reserved", "max_tx_power", "uart_port", "start_channel", "channel_num",
             "country_code", "uart_baudrate", "uart_tx_pin", "uart_rx_pin", "uart_cts_pin", "uart_rts_pin",
             "tx_control_pin", "rx_control_pin", "platform", "module_name")  # fmt: skip
    values = (value.rstrip(b"\0").decode() if isinstance(value, bytes) else value for value in fields)
    return dict(zip(names, values, strict=True))


def legacy_items(partition: bytes) -> list[bytes]:
    """The items of a PKI partition."""
    magic, count, _ = struct.unpack("<HHI", partition[:8])
    assert magic == 0xF1F1
    items, at = [], 8
    for _ in range(count):
        size = struct.unpack("<BBH", partition[at : at + 4])[2]
        items.append(partition[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return items


# --- inputs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One firmware in one form."""

    name: str
    form: str
    path: Path
    release: Path

    @property
    def legacy(self) -> bool:
        return self.name != C3_NEW

    def flash(self, path: Path) -> bytes:
        """A firmware of this form as flash."""
        if self.form == "folder":
            return builders.full_image(path, FLASH_SIZES[self.name])
        if self.form == "zip":
            unpacked = path.with_name(f"{path.name}.d")
            shutil.rmtree(unpacked, ignore_errors=True)
            shutil.unpack_archive(path, unpacked, "zip")
            return builders.full_image(unpacked / "release", FLASH_SIZES[self.name])
        return path.read_bytes()

    def files(self, path: Path) -> dict[str, bytes]:
        """The files of a release, by their names in it."""
        return {name.removeprefix("release/"): data for name, data in builders.tree(path).items()}

    @property
    def settings_partition(self) -> str:
        return "factory_param" if self.legacy else "mfg_nvs"

    def partitions_of(self, names: tuple[str, ...]) -> set[str]:
        return {name.split(".")[0] for name in names} if self.legacy else {"mfg_nvs"}


def case_id(case: tuple[str, str]) -> str:
    return f"{case[0]}-{Path(case[1]).stem}"


FEW = pytest.mark.parametrize(
    "case", [case for case in CASES if case[1] in ("folder", "image")], ids=case_id, indirect=True
)
"""For what does not depend on more than whether it is a folder or a file."""


@pytest.fixture(params=CASES, ids=case_id)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    name, form = request.param
    release = shared_or_skip() / "firmware" / name
    if form == "folder":
        path = release
    elif form == "zip":
        path = builders.zipped(release, tmp_path / "release.zip", "release/")
    elif form == "image":
        path = tmp_path / "flash.bin"
        path.write_bytes(builders.full_image(release, FLASH_SIZES[name]))
    else:
        path = release / form
    return Case(name, form, path, release)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for every PKI item: one pair of key and certificate, and an authority."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {
        "ca": builders.certificate(1, ca=True, name="authority"),
        "cert": builders.certificate(0),
        "key": builders.key_pem(0),
    }
    files = {}
    for kind, data in made.items():
        (folder / f"{kind}.pem").write_bytes(data)
    for name in (*PKI, *ADDED):
        files[name] = folder / f"{name.split('.')[0].rpartition('_')[2]}.pem"
    return files


@pytest.fixture
def modify(cli, tmp_path):
    """Run ``modify-bin`` on a path and return its JSON."""

    def call(path: Path, *args: object, output: str = "out") -> dict:
        result = cli("modify-bin", "--input", path, "--output", tmp_path / output, "--json", *args)
        assert result.status == 0, result.err
        return json.loads(result.out)

    return call


def set_args(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def pki_args(certificates: dict[str, Path], names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--set", f"{name}=@{certificates[name]}")]


def seen(run, path: Path) -> dict:
    """What ``inspect`` says."""
    result = run("inspect", path, "--json")
    assert result.status == 0, result.err
    return json.loads(result.out)


def check_only_changed(case: Case, output: Path, partitions: set[str]) -> None:
    """Assert that the output differs from the input in these partitions alone, in the form of the input."""
    before, after = case.flash(case.path), case.flash(output)
    assert differing_places(before, after) == partitions
    if case.form not in ("folder", "zip"):
        assert len(after) >= len(before)
        return
    old, new = case.files(case.path), case.files(output)
    changed = {name for name in new if new[name] != old.get(name)}
    expected = {f"customized_partitions/{name}.bin" for name in partitions} | set(
        FACTORIES.get(case.name, ())
    )
    if not expected <= set(old):  # a partition had no file yet, so both lists name one more
        expected |= {"flasher_args.json", "download.config"}
    if not case.legacy:
        expected.add("customized_partitions/mfg_nvs.csv")
    assert changed == expected
    assert set(new) == set(old) | expected
    for name in FACTORIES.get(case.name, ()):
        assert differing_places(old[name], new[name]) == partitions


def check_same(case: Case, output: Path) -> None:
    """Assert that an output is the input again."""
    if case.form in ("folder", "zip"):
        assert case.files(output) == case.files(case.path)
    else:
        assert output.read_bytes() == case.path.read_bytes()


# --- one kind of change at a time ------------------------------------------------------------------------


def test_uart_and_wifi(case, modify, cli, process, tmp_path):
    asked = {**UART[case.name], **WIFI}
    document = modify(case.path, *set_args(asked))
    assert {change["name"]: change["new"] for change in document["changes"]} == asked
    assert document["unchanged"] == []
    assert [part["name"] for part in document["partitions"]] == [case.settings_partition]
    check_only_changed(case, tmp_path / "out", {case.settings_partition})

    report = seen(process, tmp_path / "out")  # a fresh process knows only the file
    before = seen(cli, case.path)
    assert report["settings"] == {**before["settings"], **asked}
    assert (report["pki"], report["gatts"]) == (before["pki"], before["gatts"])
    if case.legacy:
        flash = case.flash(tmp_path / "out")
        at, size = places(flash)["factory_param"]
        record = legacy_record(flash[at : at + size])
        assert {name: record[name] for name in asked} == asked

    old = {change["name"]: change["old"] for change in document["changes"]}
    modify(tmp_path / "out", *set_args(old), output="back")
    check_same(case, tmp_path / "back")


def test_pki(case, modify, cli, certificates, tmp_path):
    present = Firmware.open(case.path).pki()
    names = tuple(name for name in PKI if name in present)
    document = modify(case.path, *pki_args(certificates, names), "--force")
    assert {change["name"] for change in document["changes"]} == set(names)
    check_only_changed(case, tmp_path / "out", case.partitions_of(names))

    report = {item["name"]: item for item in seen(cli, tmp_path / "out")["pki"]}
    assert set(report) == set(present)
    for name in present:
        data = certificates[name].read_bytes() if name in names else present[name]
        assert report[name]["sha256"] == hashlib.sha256(data).hexdigest()
    assert report["mqtt_key"]["key_matches_certificate"] is True
    if case.legacy:
        flash = case.flash(tmp_path / "out")
        at, size = places(flash)["client_cert"]
        items = legacy_items(flash[at : at + size])
        assert items == [certificates["client_cert.0"].read_bytes(), present["client_cert.1"]]

    for name in names:
        (tmp_path / name).write_bytes(present[name])
    back = [word for name in names for word in ("--set", f"{name}=@{tmp_path / name}")]
    modify(tmp_path / "out", *back, "--force", output="back")
    check_same(case, tmp_path / "back")


def test_gatt_rows(case, modify, cli, tmp_path):
    if case.name == ESP8266:
        result = cli("modify-bin", "--input", case.path, "--gatts-cfg1", ROW)
        assert (result.status, result.out) == (2, "")
        assert "cannot hold it: its tables list no partition ble_data" in result.err
        return
    before = seen(cli, case.path)["gatts"]
    document = modify(case.path, "--gatts_cfg1", ROW, "--unset", "cfg30")
    assert [change["name"] for change in document["changes"]] == ["cfg1", "cfg30"]
    check_only_changed(case, tmp_path / "out", case.partitions_of(("ble_data",)))
    assert seen(cli, tmp_path / "out")["gatts"] == [before[0], ROW, *before[2:30]]
    modify(tmp_path / "out", "--gatts-cfg1", before[1], "--gatts-cfg30", before[30], output="back")
    check_same(case, tmp_path / "back")


def test_absent_items_are_added(case, modify, cli, certificates, tmp_path):
    absent = tuple(name for name in (*ADDED, "server_ca") if name not in Firmware.open(case.path).pki())
    modify(case.path, *pki_args(certificates, absent))
    check_only_changed(case, tmp_path / "out", case.partitions_of(absent))
    report = {item["name"]: item["sha256"] for item in seen(cli, tmp_path / "out")["pki"]}
    for name in absent:
        assert report[name] == hashlib.sha256(certificates[name].read_bytes()).hexdigest()
    if case.form == "folder" and case.legacy:
        flash = places(case.flash(case.path))
        listed = json.loads((tmp_path / "out" / "flasher_args.json").read_text())["flash_files"]
        words = (tmp_path / "out" / "download.config").read_text().split()
        for name in absent:
            file = f"customized_partitions/{name}.bin"
            assert listed[f"{flash[name][0]:#x}"] == file
            assert words[words.index(file) - 1] == f"{flash[name][0]:#x}"

    modify(tmp_path / "out", *[word for name in absent for word in ("--unset", name)], output="back")
    if case.legacy and case.form in ("folder", "zip"):
        # The files stay, blank: who flashes the release again must not keep the old certificates.
        old, new = case.files(case.path), case.files(tmp_path / "back")
        assert case.flash(tmp_path / "back") == case.flash(case.path)
        assert {name for name in new if new[name] != old.get(name)} == {
            *(f"customized_partitions/{name}.bin" for name in absent), "flasher_args.json", "download.config"
        }  # fmt: skip
    elif case.form.endswith("_unfilled.bin") or not case.legacy:
        check_same(case, tmp_path / "back")
    else:
        assert (tmp_path / "back").read_bytes() == case.path.read_bytes()


# --- everything in one go --------------------------------------------------------------------------------


def profile(folder: Path, case: Case, certificates: dict[str, Path], names: tuple[str, ...]) -> Path:
    lines = ["settings:", *(f"  {name}: {value}" for name, value in {**UART[case.name], **WIFI}.items())]
    lines += ["pki:", *(f"  {name}: {os.path.relpath(certificates[name], folder)}" for name in names)]
    if case.name != ESP8266:
        table = ["index,uuid_len,uuid,perm,val_max_len,val_cur_len,value", "0,16,0x2800,0x01,2,2,A002", ROW,
                 "2,16,0xC300,0x01,1,1,30"]  # fmt: skip
        (folder / "gatts.csv").write_text("\n".join(table) + "\n")
        lines.append("gatts: gatts.csv")
    path = folder / "product.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_everything_in_one_go_by_a_profile(case, modify, cli, certificates, tmp_path):
    names = (*PKI, *ADDED)
    document = modify(case.path, "--profile", profile(tmp_path, case, certificates, names), "--force")
    report = seen(cli, tmp_path / "out")
    settings = {**UART[case.name], **WIFI}
    assert {name: report["settings"][name] for name in settings} == settings
    digests = {item["name"]: item["sha256"] for item in report["pki"]}
    for name in names:
        assert digests[name] == hashlib.sha256(certificates[name].read_bytes()).hexdigest()
    rows = ["0,16,0x2800,0x01,2,2,A002", ROW, "2,16,0xC300,0x01,1,1,30"]
    assert report["gatts"] == ([] if case.name == ESP8266 else rows)
    changed = {"factory_param", *(name.split(".")[0] for name in names)} if case.legacy else {"mfg_nvs"}
    if case.legacy and case.name != ESP8266:
        changed.add("ble_data")
    assert {part["name"] for part in document["partitions"]} == changed
    check_only_changed(case, tmp_path / "out", changed)
    assert cli("diff", case.path, tmp_path / "out").status == 1
    assert cli("diff", tmp_path / "out", tmp_path / "out").status == 0


@FEW
def test_in_place(case, cli, certificates, tmp_path):
    path = tmp_path / "copy"
    if case.path.is_dir():
        shutil.copytree(case.path, path)
        for file in (path, *path.rglob("*")):
            file.chmod(0o755 if file.is_dir() else 0o640)
    else:
        shutil.copyfile(case.path, path)
        path.chmod(0o640)
    asked = [*set_args(UART[case.name]), *pki_args(certificates, ("mqtt_cert", "mqtt_key", "wpa2_ca"))]
    assert cli("modify-bin", "--input", path, "--in-place", *asked).status == 0
    names = ("factory_param", "mqtt_cert", "mqtt_key", "wpa2_ca")
    check_only_changed(case, path, set(names) if case.legacy else {"mfg_nvs"})
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and file.name != "wpa2_ca.bin":
            assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert not file.name.endswith(".tmp")


@FEW
def test_a_dry_run_says_the_same_and_writes_nothing(case, cli, certificates, tmp_path):
    before = set(tmp_path.rglob("*"))
    args = ["modify-bin", "--input", case.path, *set_args(UART[case.name]), "--json"]
    args += pki_args(certificates, ("mqtt_cert", "mqtt_key"))
    extra = ["--output", tmp_path / "out", "--partitions-output", tmp_path / "parts"]
    dry = json.loads(cli(*args, *extra, "--dry-run").out)
    assert set(tmp_path.rglob("*")) == before
    wet = json.loads(cli(*args, *extra).out)
    assert {key: dry[key] for key in ("changes", "unchanged", "warnings", "chip", "layout")} == {
        key: wet[key] for key in ("changes", "unchanged", "warnings", "chip", "layout")
    }
    assert (dry["dry_run"], dry["output"]) == (True, None)
    assert (wet["dry_run"], wet["output"]) == (False, str(tmp_path / "out"))


@FEW
def test_changed_partitions_alone(case, modify, certificates, tmp_path):
    asked = [*set_args(UART[case.name]), *pki_args(certificates, ("mqtt_cert", "mqtt_key"))]
    extra = ["--partitions-output", tmp_path / "parts"]
    if not case.legacy:
        extra += ["--mfg-nvs-output", tmp_path / "mfg.bin"]
    document = modify(case.path, *asked, *extra)
    flash = case.flash(tmp_path / "out")
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        f"{part['name']}.bin" for part in document["partitions"]
    }
    for part in document["partitions"]:
        at, size = places(flash)[part["name"]]
        assert (part["offset"], part["size"]) == (at, size)
        data = flash[at : at + size].ljust(size, b"\xff")
        assert (tmp_path / "parts" / f"{part['name']}.bin").read_bytes() == data
    if not case.legacy:
        assert (tmp_path / "mfg.bin").read_bytes() == (tmp_path / "parts" / "mfg_nvs.bin").read_bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@FEW
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_permissions(case, modify, certificates, tmp_path):
    modify(
        case.path, *pki_args(certificates, ("mqtt_cert", "mqtt_key")), "--partitions-output", tmp_path / "p"
    )
    output = tmp_path / "out"
    if output.is_dir():
        secret = ["mqtt_key.bin", "client_key.bin"] if case.legacy else ["mfg_nvs.bin", "mfg_nvs.csv"]
        for name in secret:
            assert mode(output / "customized_partitions" / name) == 0o600
        for name in FACTORIES.get(case.name, ()):
            assert mode(output / name) == 0o600
        assert mode(output / "esp-at.bin") == mode(case.path / "esp-at.bin") | stat.S_IWUSR
        assert mode(output) & 0o700 == 0o700
        assert all(mode(path) & stat.S_IWUSR for path in output.rglob("*"))
        shutil.rmtree(output)
    else:
        assert mode(output) == 0o600
    key_file = "mqtt_key.bin" if case.legacy else "mfg_nvs.bin"
    assert mode(tmp_path / "p" / key_file) == 0o600


# --- against the public tools ----------------------------------------------------------------------------


def generated(csv_path: Path, size: int, sources: Path, out: Path) -> bytes:
    """The partition that the public generator makes of a CSV, whose files are below ``sources``."""
    subprocess.run(
        [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", csv_path, out, hex(size)],
        cwd=sources, check=True, capture_output=True,
    )  # fmt: skip
    return out.read_bytes()


def test_the_public_generator_makes_the_partition_of_the_changed_csv(shared, cli, certificates, tmp_path):
    """Once an entry is replaced, its row holds the bytes; the rows of other files stay what they were."""
    sources = shared / "esp-at" / "v5.0.1.0"
    release = shared / "firmware" / C3_NEW
    asked = [*set_args({**UART[C3_NEW], **WIFI, "module_name": 'a "b", c'}), "--force"]
    asked += pki_args(certificates, ("mqtt_cert", "mqtt_key", "client_cert.0", "wpa2_ca"))
    asked += ["--unset", "client_ca.1", "--gatts-cfg1", ROW]
    assert cli("modify-bin", "-in", release, "-o", tmp_path / "out", *asked).status == 0
    changed = tmp_path / "out" / "customized_partitions"
    data = generated(changed / "mfg_nvs.csv", 0x1F000, sources, tmp_path / "made.bin")
    assert data == (changed / "mfg_nvs.bin").read_bytes()
    before = (release / "customized_partitions" / "mfg_nvs.csv").read_text().splitlines()
    after = (changed / "mfg_nvs.csv").read_text().splitlines()
    rows = [row for row in csv.reader(after) if row[0] == "module_name"]
    assert rows == [["module_name", "data", "string", 'a "b", c']]
    assert {line.split(",")[0] for line in set(before) - set(after)} == {
        *UART[C3_NEW], *WIFI, "module_name", "mqtt_cert", "mqtt_key", "client_cert.0", "client_ca.1", "cfg1"
    }  # fmt: skip


def test_esp_idf_reads_the_changed_partition(shared, cli, certificates, tmp_path):
    """ESP-IDF's own nvs_tool.py, where IDF_PATH tells where it is."""
    tool = Path(os.environ.get("IDF_PATH", "/nowhere"), "components/nvs_flash/nvs_partition_tool/nvs_tool.py")
    if not tool.is_file():
        pytest.skip("needs nvs_tool.py of an ESP-IDF; set IDF_PATH")
    release = shared / "firmware" / C3_NEW
    asked = [
        *set_args({**UART[C3_NEW], **WIFI}),
        *pki_args(certificates, ("mqtt_cert", "mqtt_key", "wpa2_ca")),
    ]
    extra = ["--mfg-nvs-output", tmp_path / "mfg_nvs.bin"]
    assert cli("modify-bin", "-in", release, "-o", tmp_path / "out", *asked, *extra).status == 0
    run = [sys.executable, tool, "-d", "minimal", "-f", "json", tmp_path / "mfg_nvs.bin"]
    read = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    entries = {(entry["namespace"], entry["key"]): entry["data"] for entry in json.loads(read)}
    for name, value in {**UART[C3_NEW], **WIFI}.items():
        assert entries["factory_param", name] == value
    for name in ("mqtt_cert", "mqtt_key", "wpa2_ca"):
        assert base64.b64decode(entries[name, name]) == certificates[name].read_bytes()
    check = subprocess.run(
        [sys.executable, tool, "-i", tmp_path / "mfg_nvs.bin"], check=True, capture_output=True
    )
    assert b"rror" not in check.stdout + check.stderr
