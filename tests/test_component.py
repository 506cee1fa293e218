"""``component new``: what it writes compiles and registers its command; what it may not do it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

STUB = """\
#pragma once
#include <stdbool.h>
#include <stdint.h>
typedef struct {
    char *at_cmdName;
    uint8_t (*at_testCmd)(uint8_t *cmd_name);
    uint8_t (*at_queryCmd)(uint8_t *cmd_name);
    uint8_t (*at_setupCmd)(uint8_t para_num);
    uint8_t (*at_exeCmd)(uint8_t *cmd_name);
} esp_at_cmd_struct;
typedef enum {
    ESP_AT_PARA_PARSE_RESULT_FAIL = -1,
    ESP_AT_PARA_PARSE_RESULT_OK = 0,
    ESP_AT_PARA_PARSE_RESULT_OMITTED,
} esp_at_para_parse_result_type;
enum { ESP_AT_RESULT_CODE_OK = 0, ESP_AT_RESULT_CODE_ERROR = 1 };
esp_at_para_parse_result_type esp_at_get_para_as_digit(int32_t para_index, int32_t *value);
esp_at_para_parse_result_type esp_at_get_para_as_str(int32_t para_index, uint8_t **result);
int32_t esp_at_port_write_data(uint8_t *data, int32_t len);
bool esp_at_custom_cmd_array_regist(const esp_at_cmd_struct *array, uint32_t count);
#define ESP_AT_CMD_SET_INIT_FN(f, p) \\
    bool (f)(void);                  \\
    static __attribute__((used, section("at_cmd_set_init_fn"))) bool (*s_cmd_set_##f)(void) = (f)
"""
"""The part of esp-at's interface that a component sees, in the shape that it has from v2.4 to v5.0."""

LIBRARY = r"""
#include <stdio.h>
#include "esp_at.h"
static int s_case;
bool esp_at_custom_cmd_array_regist(const esp_at_cmd_struct *array, uint32_t count)
{
    uint8_t name[] = "name";
    for (uint32_t i = 0; i < count; i++) {
        printf("%s\n", array[i].at_cmdName);
        array[i].at_testCmd(name);
        array[i].at_queryCmd(name);
        for (s_case = 0; s_case < 6; s_case++) {
            const uint8_t counts[] = {2, 2, 1, 1, 2, 3};
            printf("set %d: %d\n", s_case, array[i].at_setupCmd(counts[s_case]));
        }
        array[i].at_queryCmd(name);
        printf("execute: %d\n", array[i].at_exeCmd(name));
    }
    return true;
}
esp_at_para_parse_result_type esp_at_get_para_as_digit(int32_t index, int32_t *value)
{
    (void)index;
    *value = -7;
    return s_case == 3 ? ESP_AT_PARA_PARSE_RESULT_FAIL : ESP_AT_PARA_PARSE_RESULT_OK;
}
esp_at_para_parse_result_type esp_at_get_para_as_str(int32_t index, uint8_t **value)
{
    static char text[66];
    (void)index;
    if (s_case == 4) {
        return ESP_AT_PARA_PARSE_RESULT_OMITTED;
    }
    for (int i = 0; i < (s_case == 0 ? 65 : 64); i++) {
        text[i] = 't';
    }
    text[s_case == 0 ? 65 : 64] = 0;
    *value = (uint8_t *)text;
    return ESP_AT_PARA_PARSE_RESULT_OK;
}
int32_t esp_at_port_write_data(uint8_t *data, int32_t length)
{
    return (int32_t)fwrite(data, 1, (size_t)length, stdout);
}
"""

NEW_MAIN = """
#include <stdbool.h>
extern bool (*__start_at_cmd_set_init_fn[])(void), (*__stop_at_cmd_set_init_fn[])(void);
int main(void)
{
    for (bool (**each)(void) = __start_at_cmd_set_init_fn; each < __stop_at_cmd_set_init_fn; each++) {
        if (!(*each)()) {
            return 1;
        }
    }
    return 0;
}
"""

OLD_MAIN = """
void at_custom_init(void);
int main(void)
{
    at_custom_init();
    return 0;
}
"""
OLD_INTERFACE = (
    '#include <stdio.h>\nvoid at_custom_init(void);\nvoid at_custom_init(void)\n{\n    puts("ready");\n}\n'
)

ANSWERS = """\
{command}
{command}:<number>[,<"text">]
{command}:0,""
set 0: 1
{command}:-7,"{long}"
set 1: 0
{command}:-7,""
set 2: 0
set 3: 1
{command}:-7,""
set 4: 0
set 5: 1
{command}:-7,""
{command}:-7,""
execute: 0
"""


def checkout(folder: Path, *, macro: bool = True) -> Path:
    """Make what tells that a folder is a checkout, and of which kind."""
    at = folder / "components" / "at"
    (folder / "components" / "customized_partitions").mkdir(parents=True)
    for name in ("include", "src", "lib"):
        (at / name).mkdir(parents=True)
    (at / "include" / "esp_at.h").write_text(STUB)
    (at / "src" / "at_user_cmd.c").write_text('static int x[] = {{"+SECRETRAM", 0}};\n')
    (folder / "main").mkdir()
    (folder / "main" / "app_main.c").write_text("void app_main(void) {}\n" if macro else OLD_MAIN)
    if macro:
        (at / "include" / "esp_at_cmd_register.h").write_text("#pragma once\n")
    return folder


@pytest.fixture
def gcc() -> str:
    found = shutil.which("gcc")
    if found is None:
        pytest.skip("needs gcc, to compile what the templates give")
    return found


def build(gcc: str, folder: Path, components: list[Path], *, macro: bool) -> str:
    """Compile components to static libraries, link them as their CMakeLists.txt says, and run the result."""
    work = folder / "work"
    work.mkdir()
    (work / "library.c").write_text(LIBRARY)
    (work / "app_main.c").write_text(NEW_MAIN if macro else OLD_MAIN)
    (work / "interface.c").write_text("" if macro else OLD_INTERFACE)
    flags = ["-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections"]
    flags += [f"-I{folder / 'components' / 'at' / 'include'}"]
    plain = [work / "library.c", work / "app_main.c", work / "interface.c"]
    libraries, options = [], []
    for component in components:
        script = (component / "CMakeLists.txt").read_text()
        sources = [component / name for name in re.findall(r'"([^"]+\.c)"', script)]
        objects = []
        for source in sources:
            objects.append(work / f"{source.stem}.o")
            subprocess.run(
                [gcc, *flags, f"-I{component / 'include'}", "-c", source, "-o", objects[-1]], check=True
            )
        libraries.append(work / f"lib{component.name}.a")
        subprocess.run([shutil.which("ar") or "ar", "rcs", libraries[-1], *objects], check=True)
        links = re.findall(r'INTERFACE "(-[^"]+)"', script)
        options += [word for link in dict.fromkeys(links) for word in link.split()]
    program = work / "firmware"
    group = ["-Wl,--start-group", *map(str, libraries), "-Wl,--end-group"]
    subprocess.run(
        [gcc, *flags[:2], flags[-1], *plain, *options, "-Wl,--gc-sections", *group, "-o", program], check=True
    )
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.replace("\r", "")


@pytest.mark.parametrize("macro", [True, False], ids=["table of functions", "at_custom_init"])
def test_two_components_compile_and_register_their_commands(cli, gcc, tmp_path, macro):
    root = checkout(tmp_path, macro=macro)
    assert cli("component", "new", "hello", "--project", root).status == 0
    assert cli("component", "new", "second_one", "--command", "AT+SND/2", "--project", root).status == 0
    components = [root / "components" / "hello", root / "components" / "second_one"]
    said = build(gcc, root, components, macro=macro)
    answers = [ANSWERS.format(command=command, long="t" * 64) for command in ("+HELLO", "+SND/2")]
    assert sorted(said.removesuffix("ready\n").splitlines()) == sorted("".join(answers).splitlines())
    assert all(answer in said for answer in answers)
    assert said.endswith("ready\n") != macro


def test_the_component_is_where_the_build_finds_it(cli, tmp_path, monkeypatch):
    root = checkout(tmp_path)
    monkeypatch.chdir(root)
    done = cli("component", "new", "hello", "--json")
    document = json.loads(done.out)
    assert document == {
        "name": "hello",
        "command": "AT+HELLO",
        "folder": str(Path("components", "hello")),
        "files": ["CMakeLists.txt", "README.md", "hello.c", "include/hello.h"],
        "found_by_build": True,
    }
    assert (
        sorted(
            path.relative_to(root / "components" / "hello").as_posix()
            for path in (root / "components" / "hello").rglob("*")
            if path.is_file()
        )
        == document["files"]
    )
    assert "AT_CUSTOM_COMPONENTS" not in (root / "components" / "hello" / "README.md").read_text()


def test_elsewhere_the_readme_and_the_report_tell_the_variable(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("component", "new", "hello", "--dir", tmp_path)
    assert done.status == 0
    assert f"AT_CUSTOM_COMPONENTS={tmp_path / 'hello'}" in done.out
    assert "AT_CUSTOM_COMPONENTS" in (tmp_path / "hello" / "README.md").read_text()


def test_an_older_version_finds_components_in_its_folder_alone(cli, tmp_path):
    root = checkout(tmp_path / "esp-at", macro=False)
    done = cli("component", "new", "hello", "--project", root, "--dir", tmp_path)
    assert done.status == 0
    assert "copy it into components" in done.out
    assert "AT_CUSTOM_COMPONENTS" not in done.out + (tmp_path / "hello" / "README.md").read_text()


def test_the_same_call_writes_the_same_bytes(cli, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert cli("component", "new", "hello", "--dir", tmp_path / name).status == 0
    for path in (tmp_path / "a" / "hello").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["2hello"], "is no name for a component"),
        (["he-llo"], "is no name for a component"),
        (["../hello"], "is no name for a component"),
        (["x" * 41], "is no name for a component"),
        (["switch"], "is no name for a component"),
        (["été"], "is no name for a component"),
        (["mqtt"], "component of that name"),
        (["MQTT", "--command", "AT+X"], "component of that name"),
        (["esp_driver_gpio", "--command", "AT+X"], "component of that name"),
        (["at"], "component of that name"),
        (["hello", "--command", "HELLO"], "is no AT command"),
        (["hello", "--command", "AT+"], "is no AT command"),
        (["hello", "--command", 'AT+A"B'], "is no AT command"),
        (["hello", "--command", "AT+A\nB"], "is no AT command"),
        (["hello", "--command", "AT+GMR"], "esp-at has this command itself"),
        (["hello", "--command", "at+cwjap"], "esp-at has this command itself"),
        (["hello", "--command", "AT+SECRETRAM"], "at_user_cmd.c has this command"),
        (["gmr"], "esp-at has this command itself"),
        (["hello", "--dir", "missing"], "its folder does not exist"),
    ],
)
def test_what_is_refused_writes_nothing(cli, tmp_path, monkeypatch, arguments, says):
    root = checkout(tmp_path / "esp-at")
    monkeypatch.chdir(root)
    before = sorted(tmp_path.rglob("*"))
    done = cli("component", "new", *arguments)
    assert (done.status, done.out) == (2, "")
    assert says in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_overwritten(cli, tmp_path):
    root = checkout(tmp_path)
    assert cli("component", "new", "hello", "--project", root).status == 0
    (root / "components" / "hello" / "hello.c").write_text("mine")
    for name, command in (("hello", "AT+OTHER"), ("Hello", "AT+OTHER")):
        done = cli("component", "new", name, "--command", command, "--project", root)
        assert done.status == 2
        assert "exists already" in done.err
    assert (root / "components" / "hello" / "hello.c").read_text() == "mine"


def test_a_command_of_another_component_is_taken(cli, tmp_path):
    root = checkout(tmp_path)
    assert cli("component", "new", "hello", "--project", root).status == 0
    done = cli("component", "new", "second", "--command", "AT+hello", "--project", root)
    assert done.status == 2
    assert "hello.c has this command" in done.err
    assert not (root / "components" / "second").exists()


def test_a_component_of_the_component_manager_is_taken(cli, tmp_path):
    root = checkout(tmp_path)
    (root / "managed_components" / "espressif__led_strip").mkdir(parents=True)
    done = cli("component", "new", "led_strip", "--project", root)
    assert done.status == 2
    assert "espressif__led_strip: exists already" in done.err


def test_no_checkout_and_no_folder(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("component", "new", "hello")
    assert done.status == 2
    assert "is no esp-at checkout" in done.err
    assert "--dir" in done.err


def test_a_version_without_a_way_in(cli, tmp_path):
    root = checkout(tmp_path)
    (root / "components" / "at" / "include" / "esp_at_cmd_register.h").unlink()
    done = cli("component", "new", "hello", "--project", root)
    assert done.status == 2
    assert "no way in" in done.err
