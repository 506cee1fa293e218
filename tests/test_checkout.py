"""An esp-at checkout, read as build.py reads it: small ones in each layout, and the official data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from esp_at_tools.catalog.releases import IdfPin
from esp_at_tools.errors import EspAtError, ExternalToolError, FormatError, InputError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule, is_checkout
from esp_at_tools.workspace.git import Git

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
PIN = f"branch:release/v5.4\ncommit:{COMMIT}\nrepository:https://host/espressif/esp-idf.git\n"
TABLE = "components/customized_partitions/raw_data/factory_param/factory_param_data.csv"
ROWS = """\
platform,module_name,description,version
PLATFORM_ESP32,WROOM-32,,4
PLATFORM_ESP32,MINI-1,"4MB, ESP32",4
PLATFORM_ESP32C3,MINI-1,TX:7 RX:6,4
,,,
platform_esp32c2,esp32c2-2mb,"two ""quoted"" MB",4
"""
BUILD_PY = """\
at_targets = ['esp32', 'esp32c2', 'esp32c3']
preset_origins = {'https://jihulab.com/esp-mirror/espressif/esp-at.git': 1}
def at_parse_submodules(): os.environ.get('AT_EXT_MODULE_CFG')
"""
PATCH_PY = """\
at_patch_defaults = {
    'path': 'esp-idf',
    'target': ['esp32c2', 'esp32c3', 'esp32'],
    'when': 'before_sdkconfig',
}
if target not in target_option: pass
"""
EXACT = "target_option = [t.strip() for t in target_option.split(',')]\n"
SUBMODULES = f"""\
[submodule "rainmaker"]
    path = components/rainmaker/esp-rainmaker
    url = https://host/esp-rainmaker.git
    branch = master
    commit = {OTHER}
"""
MINI = CheckoutModule("PLATFORM_ESP32C3", "MINI-1", "TX:7 RX:6")


def make(folder: Path, **files: str) -> Path:
    """Make a checkout with these files beside those that every one has."""
    base = {
        TABLE: ROWS,
        "build.py": BUILD_PY,
        "module_config/module_esp32c3_default/IDF_VERSION": PIN,
        "module_config/module_esp32_default/IDF_VERSION": PIN,
        "module_config/module_esp32c2-2mb/IDF_VERSION": PIN,
    }
    write(folder, {**base, **files})
    return folder


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def opened(folder: Path, **environment: str) -> Checkout:
    return Checkout.open(folder, environment)


# --- modules ------------------------------------------------------------------------------------------


def test_modules_are_those_of_the_table_in_upper_case(tmp_path):
    checkout = opened(make(tmp_path))
    assert [(module.full_name, module.description) for module in checkout.modules()] == [
        ("ESP32/WROOM-32", ""),
        ("ESP32/MINI-1", "4MB, ESP32"),
        ("ESP32C3/MINI-1", "TX:7 RX:6"),
        ("ESP32C2/ESP32C2-2MB", 'two "quoted" MB'),
    ]
    for name in ("ESP32C3/MINI-1", "platform_esp32c3/mini-1"):
        assert checkout.module(name) == MINI
    assert checkout.module("wroom-32").target == "esp32"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("MINI-1", "name of several modules", "ESP32/MINI-1 or ESP32C3/MINI-1"),
        ("ESP32C3/MINI-2", "is not the name of a module", "did you mean ESP32C3/MINI-1"),
        ("", "is not the name of a module", "it has ESP32/WROOM-32, ESP32/MINI-1"),
    ],
)
def test_a_name_that_no_module_has(tmp_path, name, message, hint):
    with pytest.raises(InputError, match=message) as caught:
        opened(make(tmp_path)).module(name)
    assert hint in caught.value.hint


def test_a_chip_that_this_version_does_not_build_for(tmp_path):
    checkout = opened(make(tmp_path, **{TABLE: ROWS + "PLATFORM_ESP32C61,X,,4\n"}))
    with pytest.raises(InputError, match="does not build for esp32c61") as caught:
        checkout.module("X")
    assert "esp32, esp32c2, esp32c3" in caught.value.hint
    first = opened(make(tmp_path, **{"build.py": "# v2.4 has no list of chips\n"}))
    assert first.targets() == ("esp32", "esp32c3")


def test_wrong_rows_and_tables(tmp_path):
    checkout = opened(make(tmp_path, **{TABLE: ROWS + "PLATFORM_ESP32C3,../X,,4\nESP32,Y,,4\n"}))
    assert len(checkout.modules()) == 4
    with pytest.raises(FormatError, match=r"factory_param_data.csv: line 7: is no module"):
        checkout.module("Y")
    (tmp_path / TABLE).write_text("platform,module\nA,B\n")
    with pytest.raises(FormatError, match="has no column module_name"):
        checkout.modules()
    (tmp_path / TABLE).write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="not UTF-8"):
        checkout.modules()


def test_the_folder_of_a_module(tmp_path):
    checkout = opened(make(tmp_path))
    assert checkout.module_folder(MINI).name == "module_esp32c3_default"
    assert checkout.module_folder(checkout.module("ESP32C2-2MB")).name == "module_esp32c2-2mb"


def test_what_is_a_checkout(tmp_path):
    assert not is_checkout(tmp_path)
    with pytest.raises(InputError, match="is no esp-at checkout"):
        opened(tmp_path)
    make(tmp_path / "new")
    assert is_checkout(tmp_path / "new")
    (tmp_path / "new" / TABLE).unlink()
    with pytest.raises(InputError, match=r"before v2\.4"):
        opened(tmp_path / "new")
    assert not is_checkout(Path("a\0b"))


# --- what it is built with ----------------------------------------------------------------------------


def test_the_pin_names_a_branch_or_a_tag(tmp_path):
    place = "module_config/module_esp32c3_default/IDF_VERSION"
    checkout = opened(make(tmp_path))
    repository = "https://host/espressif/esp-idf.git"
    assert checkout.idf_pin(MINI) == IdfPin("", "release/v5.4", "", COMMIT, repository)
    write(tmp_path, {place: PIN.replace("branch:release/v5.4", "tag:v5.4.4")})
    assert checkout.idf_pin(MINI) == IdfPin("", "", "v5.4.4", COMMIT, repository)
    for text, message in [
        (f"tag:v5.4.4\n{PIN}", "both a branch and a tag"),
        (PIN.replace("branch", "brunch"), "does not name the branch"),
        (PIN.replace(COMMIT, "HEAD"), "commit: 'HEAD' is none"),
        (PIN.replace("branch:", "tag:--upload-pack="), "tag: '--upload-pack="),
    ]:
        write(tmp_path, {place: text})
        with pytest.raises(FormatError, match=message):
            checkout.idf_pin(MINI)


def test_submodules_and_their_variables(tmp_path):
    place = "module_config/module_esp32c3_default/submodules"
    checkout = opened(make(tmp_path, **{place: SUBMODULES}))
    (found,) = checkout.submodules(MINI)
    assert (found.name, found.path, found.repository, found.branch, found.commit) == (
        "rainmaker", "components/rainmaker/esp-rainmaker", "https://host/esp-rainmaker.git", "master", OTHER,
    )  # fmt: skip
    assert checkout.environment(MINI, silence=False)["AT_RAINMAKER_SUPPORT"] == "AT_RAINMAKER_SUPPORT"
    for old, new, message in [
        (f"    commit = {OTHER}\n", "", "does not name the commit"),
        ("components/rainmaker/", "../", "leads out of the tree"),
        ("components/rainmaker/", "/x/", "is no path in the tree"),
        ("https://host/", "--config=x ", "url = '--config"),
        ("master", "-x", "branch = '-x' is none"),
    ]:
        write(tmp_path, {place: SUBMODULES.replace(old, new)})
        with pytest.raises(FormatError, match=message):
            checkout.submodules(MINI)
    write(tmp_path, {"build.py": "# v2.4 knows no submodules\n"})
    assert checkout.submodules(MINI) == ()


def test_the_environment_is_that_of_build_py(tmp_path):
    root = make(tmp_path / "a")
    given = {
        "AT_CUSTOM_COMPONENTS": "/x /y",
        "ESP_AT_FIRMWARE_FROM": "me",
        "AT_EXT_MODULE_CFG": "",
        "HOME": "h",
    }
    checkout = Checkout.open(root, given)
    assert checkout.environment(MINI, silence=True) == {
        "IDF_PATH": str(root.resolve() / "esp-idf"),
        "ESP_AT_PROJECT_PLATFORM": "PLATFORM_ESP32C3",
        "ESP_AT_MODULE_NAME": "MINI-1",
        "ESP_AT_PROJECT_PATH": str(root.resolve()),
        "SILENCE": "1",
        "AT_CUSTOM_COMPONENTS": "/x /y",
        "ESP_AT_FIRMWARE_FROM": "me",
    }
    assert checkout.environment(MINI, silence=False, idf=Path("/i"))["IDF_PATH"] == str(Path("/i"))


def test_the_extension_takes_the_place_of_files(tmp_path):
    extension = tmp_path / "extension"
    write(extension, {"IDF_VERSION": PIN.replace("5.4", "5.5"), "submodules": SUBMODULES})
    root = make(tmp_path / "at")
    checkout = opened(root, AT_EXT_MODULE_CFG=str(extension))
    assert checkout.idf_pin(MINI).branch == "release/v5.5"
    assert [each.name for each in checkout.submodules(MINI)] == ["rainmaker"]
    write(root, {"build.py": BUILD_PY.replace("AT_EXT_MODULE_CFG", "OTHER")})
    assert opened(root, AT_EXT_MODULE_CFG=str(extension)).extension is None
    assert opened(root, AT_EXT_MODULE_CFG=str(extension)).idf_pin(MINI).branch == "release/v5.4"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://github.com/espressif/esp-at.git", "https://github.com/espressif/esp-idf.git"),
        (
            "https://jihulab.com/esp-mirror/espressif/esp-at.git",
            "https://jihulab.com/esp-mirror/espressif/esp-idf.git",
        ),
        ("git@gitee.com:EspressifSystems/esp-at.git", "https://github.com/espressif/esp-idf.git"),
    ],
)
def test_where_esp_idf_comes_from(tmp_path, origin, expected):
    make(tmp_path)
    git = Git(tmp_path)
    git.run("init", "-q")
    assert opened(tmp_path).redirected("https://github.com/x.git") == "https://github.com/x.git"
    git.run("remote", "add", "origin", origin)
    repository = "https://github.com/espressif/esp-idf.git"
    assert opened(tmp_path).redirected(repository) == expected
    assert opened(tmp_path).redirected_submodule(repository) == repository


def test_gitee_has_other_addresses_for_submodules(tmp_path):
    origin = "https://gitee.com/EspressifSystems/esp-at"
    make(tmp_path, **{"build.py": f"{BUILD_PY}\n'{origin}'"})
    git = Git(tmp_path)
    git.run("init", "-q")
    git.run("remote", "add", "origin", origin)
    checkout = opened(tmp_path)
    assert checkout.redirected("https://h/esp-idf.git") == "https://gitee.com/EspressifSystems/esp-idf.git"
    assert (
        checkout.redirected_submodule("../../a/mbedtls.git") == "https://gitee.com/esp-submodules/mbedtls.git"
    )


# --- build/module_info.json ---------------------------------------------------------------------------


def test_module_info_has_the_bytes_of_build_py(tmp_path):
    checkout = opened(
        make(tmp_path, **{TABLE: ROWS + "PLATFORM_ESP32C3,Ü,Größe,4\nPLATFORM_ESP32C3,X,Größe,4\n"})
    )
    assert checkout.module_info() is None
    module = checkout.module("X")
    path = checkout.write_module_info(module, silence=True)
    info = {"platform": "PLATFORM_ESP32C3", "module": "X", "description": "Größe", "silence": 1}
    assert path.read_bytes() == json.dumps(info).encode()
    found = checkout.module_info()
    assert found is not None
    assert (found.module, found.silence) == (module, True)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "[" * 10_000, '{"platform": 1, "module": 2, "silence": 0}',
        '{"platform": "PLATFORM_ESP32C3", "module": "MINI-1", "silence": 2}',
        '{"platform": "PLATFORM_ESP32C3", "module": "MINI-9", "silence": 0}',
        '{"platform": "ESP32C3", "module": "MINI-1", "silence": 0}',
        '{"platform": ["x"], "module": {}, "silence": []}',
    ],
)  # fmt: skip
def test_a_module_info_that_is_none(tmp_path, text):
    checkout = opened(make(tmp_path, **{"build/module_info.json": text}))
    with pytest.raises(FormatError, match=r"module_info\.json") as caught:
        checkout.module_info()
    assert "--module" in caught.value.hint


# --- lists of patches ---------------------------------------------------------------------------------

COMMON = """\
[first.patch]
    description = '[X-1] the first'
    dependency = AT_EXT_MODULE_CFG
[after.patch]
    path = esp-idf/components/mqtt/esp-mqtt
    target = esp32c3, esp32c6
    when = after_sdkconfig
    dependency = CONFIG_AT_MQTT_COMMAND_SUPPORT, CONFIG_AT_BLE_COMMAND_SUPPORT
[part.patch]
    target = esp32c3
[lib.a]
    path = esp-idf/lib/lib.a
    target = esp32, esp32c3
"""


def common(tmp_path: Path, tool: str = PATCH_PY, listed: str = COMMON, **given: str) -> Checkout:
    files = {"tools/patch.py": tool, "patches/patch_list.ini": listed}
    return opened(make(tmp_path, **files), **given)


def test_the_common_list(tmp_path):
    found = common(tmp_path).patches(MINI)
    assert [(patch.name, patch.path.as_posix(), patch.when) for patch in found] == [
        ("first.patch", "esp-idf", "before_sdkconfig"),
        ("part.patch", "esp-idf", "before_sdkconfig"),
        ("lib.a", "esp-idf/lib/lib.a", "before_sdkconfig"),
        ("after.patch", "esp-idf/components/mqtt/esp-mqtt", "after_sdkconfig"),
    ]
    assert found[0].note == "[X-1] the first"
    assert all(patch.marked for patch in found)
    assert found[0].source == tmp_path.resolve() / "patches" / "first.patch"


@pytest.mark.parametrize(("tool", "names"), [
    (PATCH_PY, {"first.patch": False, "part.patch": True, "lib.a": False, "after.patch": True}),
    (PATCH_PY + EXACT, {"first.patch": False, "lib.a": False}),
])  # fmt: skip
def test_older_versions_look_for_the_chip_in_the_text(tmp_path, tool, names):
    checkout = common(tmp_path, tool)
    found = checkout.patches(checkout.module("WROOM-32"))
    assert {patch.name: patch.by_chance for patch in found} == names


def test_the_default_chips_are_those_of_the_tool(tmp_path):
    checkout = common(tmp_path, PATCH_PY.replace("'esp32c3', ", ""))
    assert "first.patch" not in [patch.name for patch in checkout.patches(MINI)]


def test_dependencies(tmp_path):
    first, part, _, after = common(tmp_path).patches(MINI)
    both = Sdkconfig.from_text("CONFIG_AT_MQTT_COMMAND_SUPPORT=y\nCONFIG_AT_BLE_COMMAND_SUPPORT=y\n")
    one = Sdkconfig.from_text(
        "CONFIG_AT_MQTT_COMMAND_SUPPORT=y\n# CONFIG_AT_BLE_COMMAND_SUPPORT is not set\n"
    )
    assert part.needed(None, {})
    assert first.needed(both, {}) is False
    assert first.needed(None, {}) is False
    assert first.needed(None, {"AT_EXT_MODULE_CFG": "x"})
    assert [after.needed(config, {}) for config in (None, one, both)] == [None, False, True]
    assert after.needed(one, {"CONFIG_AT_BLE_COMMAND_SUPPORT": "1"})


def test_the_extension_has_patches_too(tmp_path):
    extension = tmp_path / "extension"
    write(extension, {"patch/patch_list.ini": COMMON})
    found = common(tmp_path / "at", AT_EXT_MODULE_CFG=str(extension)).patches(MINI)
    names = [(patch.source.parent == extension / "patch", patch.name) for patch in found]
    assert names[:3] == [(True, "first.patch"), (True, "part.patch"), (True, "lib.a")]
    assert [name for own, name in names if not own] == ["first.patch", "part.patch", "lib.a", "after.patch"]


def test_the_list_of_a_module(tmp_path):
    folder = "module_config/module_esp32c3_default/patch"
    listed = '[a.patch]\n    path = esp-idf\n    note = "why"\n[lib.a]\n    path = esp-idf/lib.a\n'
    files = {"tools/patch.py": "# v3.4", f"{folder}/patch_list.ini": listed}
    root = make(tmp_path / "at", **files)
    found = opened(root).patches(MINI)
    assert [(patch.name, patch.note, patch.marked, patch.is_diff) for patch in found] == [
        ("a.patch", "why", False, True),
        ("lib.a", "", False, False),
    ]
    assert opened(root).patches(opened(root).module("WROOM-32")) == ()
    extension = tmp_path / "extension"
    (extension / "patch").mkdir(parents=True)
    assert opened(root, AT_EXT_MODULE_CFG=str(extension)).patches(MINI) == ()


SCRIPT = """\
import os
def main():
    cur_abs_dir = os.getcwd()
    raise SystemExit("it must not run")
    patch_list = {
        'a.patch': os.path.join(cur_abs_dir, 'esp-idf'),
        'lib.a': os.path.join(cur_abs_dir, 'esp-idf', 'components', 'lib.a'),
    }
main()
"""


def test_the_script_of_a_module_is_read_and_not_run(tmp_path):
    place = "module_config/module_esp32c3_default/patch.py"
    checkout = opened(make(tmp_path, **{place: SCRIPT}))
    assert [(patch.name, patch.path.as_posix()) for patch in checkout.patches(MINI)] == [
        ("a.patch", "esp-idf"),
        ("lib.a", "esp-idf/components/lib.a"),
    ]
    for text in (
        "patch_list = {'a': sys.argv[1]}", "x = {}", "def", "x" * 10 + "(" * 1000, "\0",
        "patch_list = {name: os.path.join(cur_abs_dir, 'x')}", "patch_list = {'a': os.path.join(other, 'x')}",
        "patch_list = {'a': os.path.join(cur_abs_dir, '..', 'x')}",
        "patch_list = {'../a': os.path.join(cur_abs_dir, 'x')}",
    ):  # fmt: skip
        write(tmp_path, {place: text})
        with pytest.raises(FormatError):
            checkout.patches(MINI)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("path = x\n", "File contains no section headers"),
        ("[a.patch]\n[a.patch]\n", "already exists"),
        ("[../a.patch]\n", "leads out of the tree"),
        ("[a.patch]\npath = ../x\n", "leads out of the tree"),
        ("[a.patch]\npath = /x\n", "is no path in the tree"),
        ("[a.patch]\nwhen = later\n", "when = 'later' is never"),
    ],
)
def test_lists_that_are_none(tmp_path, listed, message):
    with pytest.raises(FormatError, match=message):
        common(tmp_path, listed=listed).patches(MINI)


# --- git ----------------------------------------------------------------------------------------------


def test_git_says_what_failed_and_never_asks(tmp_path, monkeypatch):
    with pytest.raises(ExternalToolError, match=r"git rev-parse HEAD, in .*not a git repository"):
        Git(tmp_path, {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}).run("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as a hook of another repository has it
    git = Git(tmp_path)
    git.run("init", "-q")
    assert git.is_top()
    assert git.run("var", "GIT_EDITOR")
    (tmp_path / "in").mkdir()
    assert not Git(tmp_path / "in").is_top()
    assert not Git(tmp_path / "nowhere").is_top()
    assert git.origin() == ""
    with pytest.raises(ExternalToolError, match="git cannot run"):
        Git(tmp_path / "nowhere").run("status")
    lines: list[str] = []
    git.follow("status", "--short", "--branch", line=lines.append)
    assert lines[0].startswith("## ")
    with pytest.raises(ExternalToolError, match="fatal"):
        git.follow("show", "nothing", line=lines.append)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExternalToolError, match="git is not installed"):
        git.run("status")


# --- the official data --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v3.4.0.0", "v5.0.1.0"])
def test_the_official_tables(shared, version):
    folder = shared / "esp-at" / version
    checkout = opened(folder)
    index = json.loads((folder / "expected" / "index.json").read_text())
    expected = {
        path.parent.parent.name + "/" + path.parent.name for path in folder.glob("expected/*/*/sdkconfig")
    }
    assert {f"{module.platform}/{module.name}" for module in checkout.modules()} >= expected
    assert len(index) >= len(expected) > 13
    for module in checkout.modules():
        pin = checkout.idf_pin(module)
        assert len(pin.commit) == 40
        assert pin.repository == "https://github.com/espressif/esp-idf.git"
        names = [each.variable for each in checkout.submodules(module)]
        assert names == (["AT_RAINMAKER_SUPPORT"] if "RAINMAKER" in module.name else [])


def test_random_text_never_escapes(tmp_path):
    import random

    rng = random.Random(7)
    root = make(tmp_path)
    write(root, {"tools/patch.py": PATCH_PY})
    for _ in range(60):
        text = "".join(rng.choice("[]=:.,'\"\n \\/abx\x00é-") for _ in range(rng.randrange(60)))
        write(root, {
            "patches/patch_list.ini": f"[a.patch]\n{text}", TABLE: ROWS + text,
            "module_config/module_esp32c3_default/IDF_VERSION": f"branch:{text}",
            "module_config/module_esp32c3_default/submodules": f"[submodule x]\n{text}",
        })  # fmt: skip
        checkout = opened(root)
        for call in (checkout.patches, checkout.idf_pin, checkout.submodules):
            with contextlib.suppress(EspAtError):
                call(MINI)
        with contextlib.suppress(EspAtError):
            checkout.modules()
