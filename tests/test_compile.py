"""``build`` of a checkout with the stand-in for ESP-IDF: what is built, kept, refused, and said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import idf_standin
import pytest
from idf_standin import HOME, RAW, StandIn, commit, write

from esp_at_tools.firmware.firmware import Firmware
from esp_at_tools.workspace import compile_errors, compile_variant, overflow
from esp_at_tools.workspace.checkout import Checkout

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")


def test_a_build(cli, checkout: Path, standin: StandIn, monkeypatch) -> None:
    monkeypatch.setenv("AT_CUSTOM_COMPONENTS", "/my/component")
    monkeypatch.setenv("ESP_AT_FIRMWARE_FROM", "me")
    monkeypatch.setenv("ESP_IDF_VERSION", "4.1")
    done = cli("build", "--json")
    assert done.status == 0, done.err
    (built,) = json.loads(done.out)["builds"]
    assert (built["module"], built["application"], built["output"]) == (
        "ESP32C3/MINI-1", True, str(checkout / "build"),
    )  # fmt: skip
    assert "[1/3] Building C object" in done.err
    log = (checkout / "build/log/esp-at-tool.log").read_text()
    assert "[3/3] Generating binary image" in log
    (record,) = standin.records()
    assert record["args"] == ["-DIDF_TARGET=esp32c3", "build"]
    assert record["cwd"] == str(checkout)
    variables = record["env"]
    assert {
        "IDF_PATH": str(checkout / "esp-idf"),
        "ESP_AT_PROJECT_PLATFORM": "PLATFORM_ESP32C3",
        "ESP_AT_MODULE_NAME": "MINI-1",
        "ESP_AT_PROJECT_PATH": str(checkout),
        "SILENCE": "0",
        "ESP_IDF_VERSION": "5.4",
        "AT_CUSTOM_COMPONENTS": "/my/component",
        "ESP_AT_FIRMWARE_FROM": "me",
        "OPENOCD_SCRIPTS": str(standin.tools / "openocd"),
    }.items() <= variables.items()
    assert Path(variables["IDF_PYTHON_ENV_PATH"]).parent == standin.tools / "python_env"
    path = variables["PATH"].split(os.pathsep)
    assert path[0] == str(standin.tools / "tools/riscv32-esp-elf/bin")
    assert path[-len(os.environ["PATH"].split(os.pathsep)) :] == os.environ["PATH"].split(os.pathsep)
    assert "$PATH" not in path
    words = (checkout / "build/flash_project_args").read_text().split()
    assert (checkout / "build/download.config").read_text() == " ".join(words)
    firmware = Firmware.open(checkout / "build")
    assert firmware.settings()["module_name"] == "MINI-1"
    files = {each["path"] for each in built["files"]}
    assert {"factory/factory_MINI-1.bin", "factory/factory_MINI-1_unfilled.bin", "sdkconfig"} <= files
    for each in built["files"]:
        assert (checkout / "build" / each["path"]).stat().st_size == each["size"], each


def test_cmake_runs_again_for_another_component(cli, checkout: Path, standin: StandIn, monkeypatch) -> None:
    assert (checkout / "build").is_dir()
    for path, actions in (("/a", ["build"]), ("/a", ["build"]), ("/b", ["reconfigure", "build"])):
        monkeypatch.setenv("AT_CUSTOM_COMPONENTS", path)
        assert cli("build").status == 0
        assert standin.records()[-1]["args"][1:] == actions


def test_another_folder_and_what_is_put_in(cli, checkout: Path, tmp_path: Path) -> None:
    done = cli("build", "--project", checkout, "--output", tmp_path / "out", "--set", "uart_baudrate=921600")
    assert done.status == 0, done.err
    assert Firmware.open(tmp_path / "out").settings()["uart_baudrate"] == 921600
    assert Firmware.open(tmp_path / "out/factory/factory_MINI-1.bin").settings()["uart_baudrate"] == 921600
    assert Firmware.open(checkout / "build").settings()["uart_baudrate"] == 115200
    done = cli("build", "--set", "uart_baudrate=9600", "-q")
    assert (done.status, done.out) == (0, ""), done.err
    for place in ("build", "build/factory/factory_MINI-1_unfilled.bin"):
        assert Firmware.open(checkout / place).settings()["uart_baudrate"] == 9600
    assert "9600" in (checkout / "build/customized_partitions/mfg_nvs.csv").read_text()
    assert cli("build").status == 0
    assert Firmware.open(checkout / "build/factory/factory_MINI-1.bin").settings()["uart_baudrate"] == 115200


def test_what_is_impossible_is_refused_before_compiling(cli, checkout: Path, standin: StandIn) -> None:
    for args, message in (
        (("--set", "uart_tx_pin=99"), "uart_tx_pin"),
        (("--flash", "8MB"), "modules add NAME --from MODULE"),
        (("--dry-run",), "--config-only --dry-run"),
        (("--module", "MINI-9"), "MINI-9"),
        (("--dir", "nowhere"), "no such folder"),
    ):
        done = cli("build", *args)
        assert done.status == 2, args
        assert message in done.err
    assert standin.records() == []
    assert cli("build", "--config-only", "--output", checkout / "configuration").status == 0


def test_an_older_checkout_s_factory_images_are_made(cli, checkout: Path) -> None:
    write(checkout / "CMakeLists.txt", "project(esp-at)\n")
    assert cli("build").status == 0
    image = checkout / "build/factory/factory_MINI-1_unfilled.bin"
    before = image.read_bytes()
    os.utime(image, (1, 1))
    image.write_bytes(b"of an older build")
    os.utime(image, (1, 1))
    assert cli("build").status == 0
    assert image.read_bytes() == before


# --- modules one after the other ------------------------------------------------------------


def test_a_module_change_keeps_sdkconfig_and_build(cli, checkout: Path, standin: StandIn) -> None:
    assert cli("build").status == 0
    write(checkout / "sdkconfig", (checkout / "sdkconfig").read_text() + "CONFIG_MINE=y\n")
    done = cli("build", "--module", "MINI-2", "--silence")
    assert done.status == 0
    assert "sdkconfig of ESP32C3-MINI-1 is kept as sdkconfig.ESP32C3-MINI-1" in done.out
    assert "CONFIG_MINE=y" in (checkout / "sdkconfig.ESP32C3-MINI-1").read_text()
    assert "CONFIG_MINE" not in (checkout / "sdkconfig").read_text()
    assert "CONFIG_LOG_DEFAULT_LEVEL_NONE=y" in (checkout / "sdkconfig").read_text()
    assert standin.records()[-1]["env"]["SILENCE"] == "1"
    assert Firmware.open(checkout / "build.ESP32C3-MINI-1").settings()["module_name"] == "MINI-1"
    info = json.loads((checkout / "build/module_info.json").read_text())
    assert (info["module"], info["silence"]) == ("MINI-2", 1)
    assert cli("build").status == 0  # of the module that is prepared, in its variant
    assert standin.records()[-1]["env"]["SILENCE"] == "1"
    assert cli("build", "--module", "MINI-1").status == 0
    assert "CONFIG_MINE=y" in (checkout / "sdkconfig").read_text()
    assert sorted(each.name for each in checkout.glob("*.ESP*")) == [
        "build.ESP32C3-MINI-2-silence", "sdkconfig.ESP32C3-MINI-2-silence",
    ]  # fmt: skip


def test_an_sdkconfig_of_nobody_knows_which_module_is_kept(cli, checkout: Path) -> None:
    shutil.rmtree(checkout / "build")
    write(checkout / "sdkconfig", "CONFIG_MINE=y\n")
    assert cli("build", "--module", "MINI-1").status == 0
    assert (checkout / "sdkconfig.kept").read_text() == "CONFIG_MINE=y\n"
    (checkout / "build/module_info.json").write_text("no JSON")
    done = cli("build")
    assert (done.status, "name the module with --module" in done.err) == (2, True)
    assert cli("build", "--module", "MINI-1").status == 0
    assert (checkout / "build.kept/esp-at.bin").is_file()
    assert (checkout / "sdkconfig.kept-2").is_file()


def test_a_module_change_that_was_interrupted_is_completed(cli, checkout: Path) -> None:
    assert cli("build").status == 0
    write(checkout / "sdkconfig", (checkout / "sdkconfig").read_text() + "CONFIG_MINE=y\n")
    (checkout / "sdkconfig").rename(checkout / "sdkconfig.ESP32C3-MINI-1")  # killed after its first step
    assert cli("build").status == 0
    assert "CONFIG_MINE=y" in (checkout / "sdkconfig").read_text()
    (checkout / "sdkconfig").rename(checkout / "sdkconfig.ESP32C3-MINI-1")
    (checkout / "build").rename(checkout / "build.ESP32C3-MINI-1")  # killed after its second step
    assert cli("build", "--module", "MINI-2").status == 0
    assert cli("build", "--module", "MINI-1").status == 0
    assert "CONFIG_MINE=y" in (checkout / "sdkconfig").read_text()
    assert sorted(each.name for each in checkout.glob("*.ESP*")) == [
        "build.ESP32C3-MINI-2", "sdkconfig.ESP32C3-MINI-2",
    ]  # fmt: skip


def test_a_saved_overlay_is_applied(cli, checkout: Path) -> None:
    overlay = checkout / "sdkconfig.overlay/esp32c3-mini-1.defaults"
    write(overlay, "CONFIG_BT_ENABLED=n\nCONFIG_NEW=3\n")
    done = cli("build")
    assert "2 options of sdkconfig.overlay/esp32c3-mini-1.defaults applied" in done.out
    text = (checkout / "sdkconfig").read_text()
    assert "CONFIG_NEW=3\n" in text
    assert "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n" in text
    write(checkout / "sdkconfig", text.replace("CONFIG_NEW=3", "CONFIG_NEW=4"))
    assert "applied" not in cli("build").out
    assert "CONFIG_NEW=4\n" in (checkout / "sdkconfig").read_text(), "what was set since stays"
    write(overlay, "CONFIG_OTHER=y\n")
    assert "1 option of" in cli("build").out
    text = (checkout / "sdkconfig").read_text()
    assert "CONFIG_NEW" not in text
    assert "CONFIG_OTHER=y\n" in text
    assert cli("build", "--module", "MINI-2").status == 0
    assert "CONFIG_OTHER" not in (checkout / "sdkconfig").read_text()


def test_an_sdkconfig_that_is_given_comes_back_with_its_module(checkout: Path, tmp_path: Path) -> None:
    opened = Checkout.open(checkout)
    one, two = opened.module("MINI-1"), opened.module("MINI-2")
    compile_variant.switch(opened, one, silence=False)
    write(checkout / "sdkconfig", "CONFIG_OLD=y\n")
    write(tmp_path / "given", "CONFIG_GIVEN=y\n")
    said = compile_variant.take_sdkconfig(opened, one, tmp_path / "given")
    assert said == ("sdkconfig of ESP32C3-MINI-1 is kept as sdkconfig.ESP32C3-MINI-1.replaced",)
    compile_variant.switch(opened, two, silence=False)
    compile_variant.switch(opened, one, silence=False)
    assert (checkout / "sdkconfig").read_text() == "CONFIG_GIVEN=y\n"
    assert (checkout / "sdkconfig.ESP32C3-MINI-1.replaced").read_text() == "CONFIG_OLD=y\n"


def test_the_overlay_is_applied_again_after_a_build_with_an_sdkconfig_that_is_given(
    cli, checkout: Path, tmp_path: Path
) -> None:
    write(checkout / "sdkconfig.overlay/esp32c3-mini-1.defaults", "CONFIG_NEW=3\n")
    assert cli("build").status == 0
    given = write(tmp_path / "given", 'CONFIG_IDF_TARGET="esp32c3"\nCONFIG_NEW=7\n')
    done = cli("build", "--sdkconfig", given)
    assert "mini-1.defaults is not applied to a given sdkconfig" in done.out, done.err
    assert "CONFIG_NEW=7\n" in (checkout / "sdkconfig").read_text()
    assert "1 option of sdkconfig.overlay/esp32c3-mini-1.defaults applied" in cli("build").out
    text = (checkout / "sdkconfig").read_text()
    assert text.count("CONFIG_NEW=") == text.count("CONFIG_NEW=3\n") == 1


def test_an_sdkconfig_that_is_not_utf_8_stays(cli, checkout: Path) -> None:
    write(checkout / "sdkconfig.overlay/esp32c3-mini-1.defaults", "CONFIG_NEW=3\n")
    (checkout / "sdkconfig").write_bytes(b'CONFIG_NAME="caf\xe9"\n')
    done = cli("build")
    assert (done.status, "sdkconfig: is not UTF-8 at byte 16" in done.err) == (2, True), done.err
    assert (checkout / "sdkconfig").read_bytes() == b'CONFIG_NAME="caf\xe9"\n'


def test_every_module(cli, checkout: Path, tmp_path: Path) -> None:
    done = cli("build", "--all", "--output", tmp_path / "all", "--json", "-j", 2)
    assert done.status == 0, done.err
    assert [each["module"] for each in json.loads(done.out)["builds"]] == ["ESP32C3/MINI-1", "ESP32C3/MINI-2"]
    for name in ("MINI-1", "MINI-2"):
        assert Firmware.open(tmp_path / f"all/ESP32C3-{name}").settings()["module_name"] == name
    done = cli("build", "--all", "--json")
    outputs = [each["output"] for each in json.loads(done.out)["builds"]]
    assert outputs == [str(checkout / "build.ESP32C3-MINI-1"), str(checkout / "build")]
    own = f"{HOME.removesuffix('_default')}".replace("esp32c3", "mini-2")
    for name in ("partitions_at.csv", "IDF_VERSION", "sdkconfig.defaults"):
        write(checkout / own / name, (checkout / HOME / name).read_text().replace("0x1d0000", "0x1000"))
    done = cli("build", "--all", "--json")
    assert done.status == 4
    report = json.loads(done.out)
    assert [each["module"] for each in report["builds"]] == ["ESP32C3/MINI-1"]
    assert [(each["module"], each["status"]) for each in report["errors"]] == [("ESP32C3/MINI-2", 4)]


# --- sources ------------------------------------------------------------


def test_another_commit_is_brought_as_build_py_does(cli, checkout: Path, standin: StandIn) -> None:
    pin = checkout / HOME / "IDF_VERSION"
    write(pin, pin.read_text().replace(standin.commit, standin.newest))
    done = cli("build")
    assert done.status == 0, done.err
    assert f"from commit {standin.commit[:10]} to release/v5.4 ({standin.newest[:10]})" in done.out
    assert (checkout / "esp-idf/later.txt").is_file()
    write(checkout / "esp-idf/README.md", "mine")
    write(pin, pin.read_text().replace(standin.newest, standin.commit))
    done = cli("build")
    assert (done.status, "changed files in it would be lost: README.md" in done.err) == (2, True)


def test_patches_are_applied_and_taken_out_for_another_commit(cli, checkout: Path, standin: StandIn) -> None:
    tool = "at_patch_defaults = {'target': ['esp32c3']}\nbefore_sdkconfig after_sdkconfig\n"
    write(checkout / "tools/patch.py", tool)
    write(checkout / "patches/patch_list.ini", "[fix.patch]\npath = esp-idf\n")
    diff = "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-a stand-in\n+a patched stand-in\n"
    write(checkout / "patches/fix.patch", diff)
    done = cli("build")
    assert done.status == 0, done.err
    assert "patches applied: fix.patch" in done.out
    assert (checkout / "esp-idf/README.md").read_text() == "a patched stand-in\n"
    assert "patches applied" not in cli("build").out
    pin = checkout / HOME / "IDF_VERSION"
    write(pin, pin.read_text().replace(standin.commit, standin.newest))
    done = cli("build")
    assert done.status == 0, done.err
    assert "taking esp-at's patches out of ESP-IDF" in done.out
    assert (checkout / "esp-idf/README.md").read_text() == "a patched stand-in\n"
    write(checkout / "patches/fix.patch", diff.replace("-a stand-in", "-another"))
    (checkout / "esp-idf/README.md").write_text("a stand-in\n")
    done = cli("build")
    assert (done.status, "README.md: hunk 1 of 1" in done.err) == (2, True)


def test_missing_tools(cli, checkout: Path, standin: StandIn) -> None:
    assert (checkout / "esp-idf").is_dir()
    shutil.rmtree(standin.tools / "tools")
    done = cli("build")
    assert done.status == 4
    assert "tool riscv32-esp-elf has no installed versions" in done.err
    assert "esp-at-tool install" in done.err
    shutil.rmtree(standin.tools)
    standin.tools.joinpath("tools/riscv32-esp-elf").mkdir(parents=True)
    done = cli("build")
    assert (done.status, "Python environment is not there" in done.err) == (4, True)


# --- failures ------------------------------------------------------------


def test_a_failing_compile(cli, checkout: Path) -> None:
    write(checkout / "main/app_main.c", "int fine;\n#error broken here\n")
    done = cli("build")
    assert done.status == 4
    message = done.err[done.err.index("error: the build") :]
    assert message.startswith("error: the build of ESP32C3/MINI-1 failed: idf.py ended with exit status 2\n")
    assert "app_main.c:2:2: error: #error broken here\n" in message
    assert f"the whole log: {checkout}/build/log/esp-at-tool.log" in message
    assert "#error broken here" in (checkout / "build/log/esp-at-tool.log").read_text()
    assert not (checkout / "build/download.config").exists()


def elf(*sizes: int) -> bytes:
    """An ELF32 object with sections of these sizes, which are loaded."""
    sections = b"".join(struct.pack("<10I", 0, 1, 2, 0, 0, size, 0, 0, 0, 0) for size in sizes)
    head = b"\x7fELF\x01\x01\x01" + bytes(9)
    return (
        head + struct.pack("<HHIIIIIHHHHHH", 1, 243, 1, 0, 0, 52, 0, 52, 0, 0, 40, len(sizes), 0) + sections
    )


def archive(**members: bytes) -> bytes:
    """An ``ar`` archive of GNU's kind, with its table of long names; names have ``__`` for a dot."""
    table = "".join(f"{name.replace('__', '.')}/\n" for name in members).encode()
    entries = [("//", table)]
    for name, data in members.items():
        long = f"{name.replace('__', '.')}/\n".encode()
        entries.append((f"/{table.index(long)}", data))
    result = b"!<arch>\n"
    for title, data in entries:
        head = f"{title:16}{'0':12}{'0':6}{'0':6}{'644':8}{len(data):<10}`\n"
        result += head.encode() + data + b"\n" * (len(data) % 2)
    return result


def test_an_overflow_says_what_would_make_room(cli, checkout: Path) -> None:
    lib = checkout / "components/at/lib"
    for end, size in (("", 30_000), ("_silence", 10_000)):
        data = archive(at_wifiCmd__c__obj=elf(size), at_mqtt_cmd__c__obj=elf(5_000, 1_000))
        write(lib / f"libesp32c3_at_core{end}.a", data)
    write(checkout / "main/size.txt", str(0x1D0000 + 0x5AE0))
    done = cli("build")
    assert done.status == 4
    assert (
        "the application of ESP32C3/MINI-1, 1923808 bytes, does not fit its partition ota_0:"
        " 22.7 KB (23264 bytes) too much" in done.err
    )
    assert " 19.5 KB  --silence" in done.err
    assert " 5.9 KB  CONFIG_AT_MQTT_COMMAND_SUPPORT, MQTT client" in done.err
    assert "CONFIG_AT_WS" not in done.err, "nothing tells its size"
    assert f"esp-at-tool menuconfig --project {checkout} --module ESP32C3/MINI-1" in done.err.replace("'", "")
    assert (
        "esp-at-tool modules add ESP32C3/MINI-1-8MB --from ESP32C3/MINI-1 --flash 8MB --project" in done.err
    )
    done = cli("build", "--silence", "--module", "MINI-1")
    assert (done.status, "--silence," in done.err) == (4, False)


def test_memory_that_overflows(cli, checkout: Path) -> None:
    write(checkout / "main/iram.txt", "123")
    done = cli("build")
    assert done.status == 4
    assert "the linker's region iram0_0_seg lacks 123 B (123 bytes)" in done.err
    assert "modules add" not in done.err


def test_a_map_tells_sizes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "esp-at.map",
        "Discarded input sections\n\n .text.a  0x00000000  0x99 esp-idf/mqtt/libmqtt.a(x.c.obj)\n"
        "Linker script and memory map\n\n"
        " .text.mqtt_a\n                0x42000020       0x1a esp-idf/mqtt/libmqtt.a(mqtt_client.c.obj)\n"
        " .rodata        0x3c000000       0x06 esp-idf/mqtt/libmqtt.a(mqtt_client.c.obj)\n"
        " .debug_info    0x00000000       0x99 esp-idf/mqtt/libmqtt.a(mqtt_client.c.obj)\n",
    )
    assert overflow.map_pieces(path) == {"libmqtt.a(mqtt_client.c.obj)": 0x20}
    assert overflow.map_pieces(tmp_path / "none.map") == {}
    path.write_bytes(b" .text 0x0000000042000000 0x20 /x/libm\xe9.a(a.c.obj)\n")
    assert overflow.map_pieces(path) == {"libm\ufffd.a(a.c.obj)": 0x20}


@pytest.mark.parametrize(
    "data", [b"", b"!<arch>\n", b"!<arch>\nshort", archive(a=b"\x7fELF"), archive(a=elf(5)[:60])]
)
def test_libraries_that_are_none(tmp_path: Path, data: bytes) -> None:
    assert sum(overflow.library_pieces(write(tmp_path / "lib.a", data)).values()) == 0


def test_the_first_real_error_is_found() -> None:
    lines = [
        "\x1b[0mExecuting action: all", "[1/9] Building error.c.obj", "FAILED: x.obj", "gcc -Werror -c x.c",
        "\x1b[1mx.c:1:2: \x1b[31merror: no such thing\x1b[0m", "ninja: build stopped: subcommand failed.",
    ]  # fmt: skip
    assert compile_errors.causes(lines) == ("x.c:1:2: error: no such thing",)
    cmake = [
        "CMake Error at x:1 (project):",
        "  The compiler:",
        "",
        "    gcc",
        "",
        "  was not found.",
        "Call Stack",
    ]
    assert compile_errors.causes([*cmake, "", "-- done"]) == (
        "CMake Error at x:1 (project): The compiler: gcc was not found.",
    )
    assert compile_errors.causes(["one", "two", ""]) == ("one", "two")
    assert compile_errors.progress("[3/12] Linking x") == (3, 12, "Linking x")
    assert compile_errors.find_overflow(lines) is None
    found = compile_errors.find_overflow(
        ["Error: All app partitions are too small for binary esp-at.bin size 0x135ae0:",
         "  - Part 'ota_0' 0/16 @ 0xd0000 size 0x130000 (overflow 0x5ae0)"]
    )  # fmt: skip
    assert found == compile_errors.Overflow("ota_0", 0x5AE0, 0x135AE0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_build(checkout: Path, number: int) -> None:
    process = idf_standin.start_slow(checkout, "build")
    begin = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("interrupted\n")
    assert time.monotonic() - begin < 15
    ps = shutil.which("ps")
    assert ps
    running = subprocess.run([ps, "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"{checkout}/esp-idf/tools/idf.py" not in running


def test_tokens_are_neither_shown_nor_logged(cli, checkout: Path, monkeypatch) -> None:
    header = idf_standin.add_tokens(checkout)
    monkeypatch.setenv("AT_OTA_TOKEN_MINI1", "abcdef0123456789")
    write(checkout / "main/app_main.c", "#error abcdef0123456789\n")
    done = cli("build")
    assert done.status == 4
    assert "#error ***" in done.err
    assert "abcdef0123456789" not in done.out + done.err
    assert "abcdef0123456789" not in (checkout / "build/log/esp-at-tool.log").read_text()
    assert "abcdef" not in header.read_text()


def test_the_extension_of_a_module(cli, checkout: Path, standin: StandIn, tmp_path: Path) -> None:
    script = "at_targets = ['esp32c3']\nos.environ.get('AT_EXT_MODULE_CFG')\nat_parse_submodules\n"
    write(checkout / "build.py", script)
    write(
        checkout / "CMakeLists.txt",
        "esp_at_factory_bin list(APPEND SDKCONFIG_DEFAULTS $ENV{AT_EXT_MODULE_CFG}/x)\n",
    )
    pin = (checkout / HOME / "IDF_VERSION").read_text().replace(standin.commit, standin.newest)
    write(tmp_path / "ext/IDF_VERSION", pin)
    done = cli("build", "--dir", tmp_path / "ext")
    assert done.status == 0, done.err
    assert standin.records()[-1]["env"]["AT_EXT_MODULE_CFG"] == str(tmp_path / "ext")
    assert (checkout / "esp-idf/later.txt").is_file()


def test_an_unknown_chip_of_this_version(cli, checkout: Path) -> None:
    write(checkout / "build.py", "at_targets = ['esp32']\n")
    commit(checkout)
    done = cli("build", "--module", "MINI-1")
    assert (done.status, "does not build for esp32c3" in done.err) == (2, True)
    assert Checkout.open(checkout).targets() == ("esp32",)
    assert (checkout / RAW).is_dir()


def test_a_python_environment_that_lacks_packages(cli, checkout: Path, standin: StandIn) -> None:
    (python,) = standin.tools.glob("python_env/*/bin/python")
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    done = cli("build")
    assert done.status == 4
    assert not (checkout / "build/esp-at.bin").exists()
    assert "'esp-at-tool install' mends ESP-IDF's Python environment" in done.err
