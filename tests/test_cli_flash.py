"""The command ``flash`` against simulated boards: esptool unmodified, the flash compared byte for byte."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import pytest
from conftest import Result
from rom_simulator import Faults, Loader, PtyBoard, SocketBoard

import esp_at_tools
from esp_at_tools.firmware.firmware import Firmware

fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals")

NVS = slice(0x10000, 0x1E000)
BLANK = b"\xff" * builders.FLASH_SIZE
FAST = "[esptool]\ntimeout = 0.3\nsync_timeout = 0.05\nconnect_attempts = 1\nwrite_block_attempts = 2\n"
"""Settings of esptool with which a board that does not answer is given up quickly."""


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image") / "factory.bin"
    path.write_bytes(builders.image())
    return path


@pytest.fixture
def board() -> Iterator[Callable[..., PtyBoard]]:
    """Plug in a board: ``board("esp32c3", flash=…)``."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(PtyBoard(Loader(*args, **options)))


@pytest.fixture
def quick(tmp_path) -> Callable[..., Result]:
    """Run ``flash`` in its own process, where esptool is not patient with a board that fails."""
    config = tmp_path / "esptool.cfg"
    config.write_text(FAST)
    home = Path(esp_at_tools.__file__).parent.parent
    environment = {**os.environ, "ESPTOOL_CFGFILE": str(config), "PYTHONPATH": str(home)}

    def call(*args: object) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "esp_at_tools", "flash", *map(str, args)],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return call


# --- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--no-stub"]], ids=["stub", "rom"])
def test_full_image(cli, board, image, options):
    new = board()
    done = cli("flash", image, "-p", new.port, "--verify", *options)
    assert done.status == 0, done.err
    assert new.loader.flash == image.read_bytes()
    assert "verified" in done.out
    assert "nothing of nvs, fatfs to keep on this module: it has no partition table yet" in done.err
    assert new.loader.baud == 460800


def test_what_the_module_has_stored_is_kept_unless_erased(cli, board, image):
    used = bytearray(image.read_bytes())
    used[0x12345] = used[0x50000] = 0x5A
    used[0x300000] = 0x00
    module = board(flash=used[:])
    done = cli("flash", image, "-p", module.port)
    assert done.status == 0, done.err
    assert "Kept as the module has it: nvs (0x10000, 56 KB), fatfs" in done.out
    assert done.out.index("Kept") < done.out.index("done in")
    used[0x300000] = 0xFF
    assert module.loader.flash == used
    done = cli("flash", image, "-p", module.port, "--erase")
    assert done.status == 0, done.err
    assert "is lost" in done.out
    assert module.loader.flash == image.read_bytes()


def test_what_another_layout_has_in_place_of_nvs_is_not_kept(cli, board, image):
    other = bytearray(image.read_bytes())
    other[0x8040 + 7] = 0x02  # nvs begins 64 KB later there
    other[NVS] = b"\xa5" * 0xE000
    module = board(flash=other)
    done = cli("flash", image, "-p", module.port)
    assert done.status == 0, done.err
    assert "nothing of nvs to keep on this module: its flash was laid out differently" in done.err
    assert module.loader.flash == image.read_bytes()


@pytest.mark.parametrize("form", ["folder", "zip", "build"])
def test_release(cli, board, tmp_path, monkeypatch, form):
    folder = builders.release(tmp_path / "build")
    given = {"folder": [folder], "zip": [builders.zipped(folder, tmp_path / "r.zip")], "build": []}[form]
    monkeypatch.chdir(tmp_path)
    module = board()
    done = cli("flash", *given, "-p", module.port)
    assert done.status == 0, done.err
    assert module.loader.flash == builders.full_image(folder, builders.FLASH_SIZE)


def test_only_what_differs_travels(cli, board, image, tmp_path):
    module = board(flash=image.read_bytes())
    changed = tmp_path / "changed.bin"
    assert cli("modify-bin", "--input", image, "--output", changed, "--baud", 921600).status == 0
    done = cli("flash", changed, "--only", "mfg_nvs", "-p", module.port)
    assert done.status == 0, done.err
    assert module.loader.flash == changed.read_bytes()
    assert "4 KB written, 120 KB needed no writing" in done.out
    again = cli("flash", changed, "-p", module.port)
    assert "0 B written" in again.out


def test_the_line_that_modify_bin_prints_works(cli, board, image, tmp_path):
    changed = tmp_path / "out.bin"
    printed = cli("modify-bin", "--input", image, "--output", changed, "--baud", 9600).out
    line = next(line for line in printed.splitlines() if "--only" in line)
    module = board(flash=image.read_bytes())
    words = [module.port if word == "PORT" else word for word in shlex.split(line)]
    assert words[0] == "esp-at-tool"
    done = cli(*words[1:])
    assert done.status == 0, done.err
    assert module.loader.flash == changed.read_bytes()


@pytest.mark.parametrize("options", [[], ["--no-stub"]], ids=["stub", "rom"])
def test_partition_alone_goes_where_the_module_has_it(cli, board, tmp_path, options):
    lone = tmp_path / "mfg_nvs.bin"
    lone.write_bytes(builders.generate(builders.mfg_csv()))
    blank_nvs = b"\xff" * builders.MFG_SIZE
    flash = bytearray(builders.image())
    flash[builders.MFG_OFFSET : builders.MFG_OFFSET + builders.MFG_SIZE] = blank_nvs
    module = board(flash=flash)
    done = cli("flash", lone, "-p", module.port, *options)
    assert done.status == 0, done.err
    assert module.loader.flash == builders.image()
    new = board()
    done = cli("flash", lone, "-p", new.port, *options)
    assert done.status == 3
    assert "the module has no partition mfg_nvs: it has no partition table" in done.err
    assert new.loader.flash == BLANK


def test_esp8266(cli, board, shared):
    folder = shared / "firmware" / "ESP8266-AT-V2.2.1.0"
    wanted = builders.full_image(folder, 2 << 20)
    module = board("esp8266", flash_size=2 << 20)
    done = cli("flash", folder, "-p", module.port, "--only", "factory_param", "--verify")
    assert done.status == 0, done.err
    assert module.loader.flash[0xF1000:0xF2000] == wanted[0xF1000:0xF2000]
    module.loader.running_stub = False
    done = cli("flash", folder, "-p", module.port, "--no-stub")
    assert done.status == 3
    assert "without stub an ESP8266 erases 4 KB behind factory_param, too" in done.err
    done = cli("flash", folder, "-p", module.port, "--no-stub", "--verify")
    assert "cannot verify" in done.err
    done = cli("flash", folder, "-p", module.port, "--no-stub", "--erase")
    assert done.status == 0, done.err
    assert module.loader.flash == wanted


@pytest.mark.parametrize(
    ("chip", "name"),
    [("esp32c3", "ESP32-C3-MINI-1-V2.3.0.0"), ("esp32", "ESP32-WROOM-32-V2.2.0.0"),
     ("esp32c3", "ESP32-C3-MINI-1-V5.0.1.0-assembled")],
)  # fmt: skip
def test_real_releases(cli, board, shared, chip, name):
    folder = shared / "firmware" / name
    module = board(chip)
    done = cli("flash", folder, "-p", module.port, "--verify")
    assert done.status == 0, done.err
    whole = builders.full_image(folder, 4 << 20)
    assert module.loader.flash == whole
    places = {place.partition.name: place.partition for place in Firmware.open(folder).map.places()}
    part = places.get("mqtt_ca", places.get("mfg_nvs"))
    module.loader.flash[part.offset : part.offset + 64] = bytes(64)
    done = cli("flash", folder, "-p", module.port, "--only", part.name)
    assert done.status == 0, done.err
    assert module.loader.flash == whole


def test_over_a_socket(cli, image):
    with SocketBoard(Loader()) as module:
        done = cli("flash", image, "-p", module.port, "--only", "mfg_nvs")
        assert done.status == 0, done.err
        part = slice(builders.MFG_OFFSET, builders.MFG_OFFSET + builders.MFG_SIZE)
        assert module.loader.flash[part] == image.read_bytes()[part]


# --- several at once -----------------------------------------------------------------------------


def test_one_that_fails_does_not_stop_the_others(quick, board, image):
    good = [board(mac=bytes((2, 0, 0, 0, 0, number))) for number in (1, 2)]
    other = board("esp32", mac=bytes((2, 0, 0, 0, 0, 3)))
    ports = [good[0].port, other.port, good[1].port]
    done = quick(image, "--json", *(word for port in ports for word in ("-p", port)))
    assert done.status == 3
    assert [module.loader.flash == image.read_bytes() for module in good] == [True, True]
    assert other.loader.flash == BLANK
    boards = json.loads(done.out)["boards"]
    assert [(b["port"], b["result"], b["mac"][-2:]) for b in boards] == [
        (ports[0], "done", "01"), (ports[1], "failed", "03"), (ports[2], "done", "02"),
    ]  # fmt: skip
    assert boards[1]["error"]["message"].startswith(f"{ports[1]}: is an ESP32, and {image}")
    assert boards[0]["bytes_written"] > 0
    assert f"{ports[2]}: done in" in done.err


def test_table_of_several(quick, board, image):
    modules = [board(flash=image.read_bytes()) for _ in range(2)]
    done = quick(image, "-p", modules[0].port, "-p", modules[1].port, "-p", "/dev/no-such-port")
    assert done.status == 3
    rows = done.out.splitlines()[-4:]
    assert rows[0].split() == ["port", "chip", "MAC", "written", "not", "needed", "seconds", "result"]
    assert [row.split()[-1] for row in rows[1:]] == ["done", "done", "FAILED"]
    assert "error: /dev/no-such-port: there is no such port" in done.err


def test_eight_at_once(quick, board, image):
    modules = [board(mac=bytes((2, 0, 0, 0, 0, number))) for number in range(8)]
    done = quick(image, "--verify", "--json", *(word for each in modules for word in ("-p", each.port)))
    assert done.status == 0, done.err
    assert all(each.loader.flash == image.read_bytes() for each in modules)
    boards = json.loads(done.out)["boards"]
    assert [each["mac"][-2:] for each in boards] == [f"{number:02x}" for number in range(8)]
    assert all(each["verified"] for each in boards)


# --- dry run and JSON ----------------------------------------------------------------------------


def test_dry_run_and_the_esptool_command_do_the_same(cli, board, tmp_path, image):
    parts = tmp_path / "parts"
    done = cli("flash", image, "--dry-run", "--verify", "--parts-output", parts, "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert document["dry_run"]
    assert [part["name"] for part in document["kept"]] == ["nvs", "fatfs"]
    module = board()
    for words in document["esptool"]:
        words = [module.port if word == "PORT" else word for word in words]  # noqa: PLW2901 - the words to run
        ran = subprocess.run(
            [sys.executable, "-m", *words], check=False, capture_output=True, text=True
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert module.loader.flash == image.read_bytes()
    assert {path.name for path in parts.iterdir()} == {"0x0.bin", "0x1e000.bin", "0x60000.bin"}


def test_no_folder_where_every_piece_is_a_file(cli, tmp_path):
    release = builders.release(tmp_path / "release")
    done = cli("flash", release, "--dry-run", "--parts-output", tmp_path / "parts")
    assert done.status == 0, done.err
    assert "every piece is a file of its own already" in done.err
    assert "nothing was written" in done.out
    assert {path.name for path in tmp_path.iterdir()} == {"release"}


def test_release_is_flashed_as_esptool_does_it(cli, board, tmp_path):
    folder = builders.release(tmp_path / "release")
    args = folder / "flasher_args.json"
    args.write_text(args.read_text().replace('"dio"', '"qio"').replace('"40m"', '"80m"'))
    ours, theirs = board(), board()
    assert cli("flash", folder, "-p", ours.port).status == 0
    line = next(
        line for line in cli("flash", folder, "--dry-run").out.splitlines() if line.startswith("  esptool")
    )
    words = [theirs.port if word == "PORT" else word for word in shlex.split(line)]
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    assert ours.loader.flash == theirs.loader.flash
    assert ours.loader.flash[2:4] == b"\x00\x2f"


def test_dry_run_needs_no_module(cli, image):
    done = cli("flash", image, "--dry-run", "--only", "mfg_nvs", "-p", "/dev/no-such-port")
    assert done.status == 0, done.err
    assert "0x0001f000     124 KB  mfg_nvs" in done.out
    assert "write-flash 0x1f000 0x1f000.bin" in done.out


def test_receipt(cli, board, image):
    module = board(flash=image.read_bytes())
    done = cli("flash", image, "--only", "mfg_nvs", "--verify", "--json", "-p", module.port)
    document = json.loads(done.out)
    (receipt,) = document["boards"]
    assert document["segments"][0]["sha256"] == receipt["segments"][0]["sha256"]
    assert (receipt["result"], receipt["error"], receipt["verified"]) == ("done", None, True)
    assert (receipt["chip"], receipt["mac"], receipt["flash_size"]) == (
        "esp32c3", "c4:0a:24:fe:10:01", 4 << 20,
    )  # fmt: skip
    assert (receipt["segments"][0]["written"], receipt["segments"][0]["size"]) == (0, builders.MFG_SIZE)


def test_quiet_and_verbose(cli, board, image):
    module = board()
    quiet = cli("flash", image, "-q", "-p", module.port)
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")
    said = cli("flash", image, "-v", "-p", module.port)
    assert "esptool: " in said.err


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        ({"flash_size": 2 << 20}, [], "has 2 MB of flash, and"),
        ({"secure_boot": True}, [], "secure boot on, and bootloader, ota_0 in"),
        ({"encryption": True}, [], "flash encryption on, and bootloader, partition_table, otadata, ota_0"),
        ({"encryption": True}, ["--only", "ota_0"], "flash encryption on, and ota_0"),
        ({"secure_download": True}, ["--only", "mfg_nvs"], "Secure Download Mode"),
    ],
)
def test_module_that_the_firmware_is_not_for(cli, board, image, options, flags, message):
    module = board(**options)
    done = cli("flash", image, "-p", module.port, *flags)
    assert done.status == 3
    assert message in done.err
    assert module.loader.flash.count(0xFF) == len(module.loader.flash)


@pytest.mark.parametrize("options", [{"secure_boot": True}, {"encryption": True}, {"flash_size": 1 << 20}])
def test_settings_can_be_written_to_any_module(cli, board, image, options):
    module = board(**options)
    done = cli("flash", image, "-p", module.port, "--only", "mfg_nvs")
    assert done.status == 0, done.err
    assert module.loader.flash[0x1F000:0x1F004] == image.read_bytes()[0x1F000:0x1F004]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "mfgnvs"], "did you mean 'mfg_nvs'"),
        (["--erase", "--only", "nvs"], "contradict each other"),
        (["--parts-output", "x"], "goes with --dry-run"),
        (["-b", "0"], "is no rate"),
        (["-p", "/dev/a", "-p", "/dev/a"], "is the same port as"),
    ],
)
def test_wrong_usage(cli, image, words, message):
    done = cli("flash", image, *words)
    assert done.status == 2
    assert message in done.err


def test_no_input_and_no_build_folder(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("flash", "-p", "/dev/a")
    assert done.status == 2
    assert "there is no folder build/ here" in done.err


def test_ports_that_are_none(cli, image, tmp_path, board):
    (tmp_path / "file").touch()
    taken = board()
    descriptor = os.open(taken.port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for port, message in (
            ("/dev/no-such-port", "there is no such port"), (tmp_path / "file", "is no serial port"),
            ("foo://bar", "is no serial port"), ("socket://127.0.0.1:1", "cannot be opened"),
            (taken.port, "another program has it open"),
        ):  # fmt: skip
            done = cli("flash", image, "-p", port)
            assert (done.status, message in done.err) == (3, True), done.err
    finally:
        os.close(descriptor)


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"silent": True}, "nothing answers"),
        ({"silent_from": 3}, "the connection broke off"),
        ({"hang_up_from": 3}, "the port is gone"),
        ({"garble_from": 3}, "the connection broke off"),
        ({"reset_from": 3}, "the connection broke off"),
        ({"weak_cell": 0x1F100}, "what is in flash is not what was written"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--no-stub", "--only", "mfg_nvs"]], ids=["stub", "rom"])
def test_fault_is_named_and_flashing_can_be_repeated(cli, quick, board, image, fault, message, options):
    broken = board(faults=Faults(**fault))
    done = quick(image, "-p", broken.port, *options)
    assert done.status == 3
    assert done.err.splitlines()[-2] == f"error: {broken.port}: {message}" + (
        ", as when its cable is pulled" if "gone" in message else ""
    )
    assert done.err.splitlines()[-1].startswith("  ")
    mended = board(flash=broken.loader.flash)
    again = cli("flash", image, "-p", mended.port)
    assert again.status == 0, again.err
    assert mended.loader.flash == image.read_bytes()


@pytest.mark.parametrize("options", [[], ["--no-stub", "--only", "mfg_nvs"]], ids=["stub", "rom"])
def test_packet_that_arrives_damaged_is_sent_again(cli, board, image, options):
    module = board(faults=Faults(garble=2), flash=b"")
    done = cli("flash", image, "-p", module.port, *options)
    assert done.status == 0, done.err
    part = slice(builders.MFG_OFFSET, builders.MFG_OFFSET + builders.MFG_SIZE)
    assert module.loader.flash[part] == image.read_bytes()[part]


def test_esptool_gets_its_logger_back(cli, board, image):
    from esptool import loader, logger, reset

    def state() -> tuple[object, ...]:
        held = getattr(logger, "EspLog", None)
        heard = logger.log.__class__ if held is None else held.instance
        return heard, loader.HexFormatter, vars(reset.ResetStrategy)["print_once"]

    before = state()
    assert cli("flash", image, "--only", "mfg_nvs", "-p", board().port).status == 0
    assert cli("flash", image, "--only", "mfg_nvs", "-p", "/dev/no-such-port").status == 3
    assert state() == before


def test_dry_run_tells_what_the_bootloader_says_of_the_flash(cli, image):
    flash = json.loads(cli("inspect", image, "--json").out)["bootloader"]
    done = cli("flash", image, "--dry-run", "--json")
    assert done.status == 0, done.err
    said = json.loads(done.out)["flash"]
    assert said == {name: flash[f"flash_{name}"] for name in ("mode", "freq", "size")}
    assert all(said.values())
    alone = cli("flash", image, "--only", "mfg_nvs", "--dry-run", "--json")
    assert json.loads(alone.out)["flash"] == {"mode": "", "freq": "", "size": ""}  # no bootloader is written


def test_one_part_is_one_part(cli, image):
    assert " in 1 part:" in cli("flash", image, "--only", "mfg_nvs", "--dry-run").out
    assert " parts:" in cli("flash", image, "--dry-run").out
