"""The partition planner: whatever is asked for, the tables keep the rules, or an error says the numbers."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esp_at_tools.build.plan_report import Plan, room_for_user
from esp_at_tools.build.planner import FLASH_SIZES, parse_flash_size, parse_wish, plan, smallest_flash
from esp_at_tools.catalog.module_model import Module
from esp_at_tools.catalog.modules import module, modules
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_checks import check_secondary
from esp_at_tools.formats.partition_table import DATA, Partition, PartitionTable

K, M = 1 << 10, 1 << 20
LAYOUTS = tuple({(each.primary_name, each.secondary_name): each for each in modules()}.values())
"""One module for each pair of tables that the definitions have."""
BY_NAME = {each.full_name: each for each in LAYOUTS}
MINI = module("ESP32C3/MINI-1")


def planned(each: Module, flash: int | None = None, **asked: object) -> Plan:
    return plan(
        each.primary,
        each.secondary,
        table_offset=each.partition_table_offset,
        flash_size=flash or each.flash.size,
        old_flash_size=each.flash.size,
        **asked,
    )


def attempt(each: Module, flash: int, **asked: object) -> Plan | InputError:
    try:
        return planned(each, flash, **asked)
    except InputError as error:
        return error


def check(each: Module, found: Plan, wishes: dict[str, int], app_size: int | None) -> None:
    """Check a plan against the rules of ESP-IDF, of the user guide, and of what was asked."""
    primary, secondary = found.primary, found.secondary
    problems = [
        *primary.validate(offset_part_table=each.partition_table_offset, flash_size=found.flash_size),
        *secondary.validate(offset_part_table=0, flash_size=found.flash_size, primary=False),
        *check_secondary(primary, secondary),
    ]
    assert [p for p in problems if p.level == "error"] == []
    assert [p for p in problems if "outside at_customize" in p.message] == []
    home, old_home = primary.find("at_customize"), each.primary.find("at_customize")
    assert home is not None
    assert old_home is not None
    assert home.offset == old_home.offset
    head = [p for p in each.primary if p.offset < home.offset]
    assert [p for p in primary if p.offset < home.offset] == head
    for user in secondary:
        assert home.offset + 4 * K <= user.offset
        assert user.end <= home.end
        old = each.secondary.find(user.name)
        assert old is None or (old.type, old.subtype) == (user.type, user.subtype)
        assert len(user.name.encode()) <= 16
    mfg, old_mfg = secondary.find("mfg_nvs"), each.secondary.find("mfg_nvs")
    assert mfg is not None
    assert old_mfg is not None
    assert mfg.offset == old_mfg.offset
    assert mfg.size == wishes.get("mfg_nvs", old_mfg.size)
    for name, size in wishes.items():
        there = primary.find(name) or secondary.find(name)
        assert (there.size if there else 0) == size, name
    slots = [p for p in primary.apps if p.size == max(app.size for app in primary.apps)]
    assert slots
    if app_size is not None:
        assert slots[0].size >= app_size
    if (
        len([p for p in each.primary.apps if p.size == each.primary.apps[0].size]) == 2
        and len(primary.apps) == 2
    ):
        assert primary.apps[0].size == primary.apps[1].size  # slots that were equal stay equal
    # Source: tools/at_sanity_checker.py of esp-at: compressed updates v2 need data/0x22.
    if each.primary.of_type(DATA, 0x22) and "storage" not in found.removed:
        assert primary.of_type(DATA, 0x22)


SECTORS = st.integers(1, 512).map(lambda n: n * 4 * K)
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "mfg_nvs": st.integers(3, 128).map(lambda n: n * 4 * K),
        "fatfs": st.integers(0, 512).map(lambda n: n * 4 * K),
        "test": SECTORS,
        "user_data": SECTORS,
    },
)


@settings(max_examples=400)
@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from(FLASH_SIZES),
    WISHES,
    st.none() | st.integers(1, 4 * M),
    st.booleans(),
    st.booleans(),
)
@example(module("ESP32C2/ESP32C2-2MB"), 2 * M, {"test": 4 * K}, None, False, False)
@example(module("ESP32/ESP32-D2WD"), 4 * M, {}, None, False, True)
def test_any_layout_for_any_flash_with_any_wishes(
    each: Module, flash: int, wishes: dict[str, int], app_size: int | None, unused: bool, second: bool
) -> None:
    found = attempt(
        each,
        flash,
        wishes=wishes,
        app_size=app_size,
        unused=("fatfs",) if unused else (),
        second_slot=second,
    )
    if isinstance(found, Plan):
        check(each, found, wishes, app_size)
    else:
        assert re.search(r"\d+ (KB|bytes)", found.message), found
        assert re.search(r"smaller|give|most that fits|frees|has the room", found.hint), found


@settings(max_examples=100)
@given(st.sampled_from(LAYOUTS), WISHES, st.integers(1, 2 * M))
def test_what_fits_a_flash_fits_a_larger_one(each: Module, wishes: dict[str, int], app_size: int) -> None:
    found = [attempt(each, flash, wishes=wishes, app_size=app_size) for flash in FLASH_SIZES]
    fits = [isinstance(one, Plan) for one in found]
    assert fits == sorted(fits)
    assert fits[-1]


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_asked_for_changes_nothing(name: str) -> None:
    each = BY_NAME[name]
    found = planned(each)
    assert (found.primary, found.secondary, found.changes) == (each.primary, each.secondary, ())
    sizes = {p.name: p.size for p in (*each.primary, *each.secondary)}
    again = planned(each, wishes={key: sizes[key] for key in ("mfg_nvs", "at_customize")})
    assert again.changes == ()
    assert planned(each, app_size=each.primary.apps[0].size // 2).changes == ()


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("flash", FLASH_SIZES)
def test_a_larger_flash_makes_nothing_smaller(name: str, flash: int) -> None:
    each = BY_NAME[name]
    if flash <= each.flash.size:
        return
    found = planned(each, flash)
    for change in found.changes:
        assert change.old is not None
        assert change.new is not None
        assert change.new.size >= change.old.size
    assert found.primary.end == flash
    assert room_for_user(found.primary, found.secondary) > 0
    assert found.app_room <= 4 * M  # what the MMU of the ESP32-C2 maps


def by_name(table: PartitionTable) -> dict[str, tuple[int, int]]:
    return {p.name: (p.offset, p.size // K) for p in table}


def test_eight_megabytes() -> None:
    found = planned(MINI, 8 * M)
    assert by_name(found.primary) == {
        "otadata": (0xD000, 8),
        "phy_init": (0xF000, 4),
        "nvs": (0x10000, 56),
        "at_customize": (0x1E000, 264 + 2048),  # half of the new space
        "ota_0": (0x260000, 1856 + 1024),  # and a quarter for each slot
        "ota_1": (0x530000, 1856 + 1024),
    }
    assert by_name(found.secondary) == {"mfg_nvs": (0x1F000, 124), "fatfs": (0x47000, 100 + 1024)}
    assert [str(change) for change in found.changes][-1] == (
        "fatfs: 100 KB at 0x47000 → 1124 KB at 0x47000 (+1024 KB)"
    )


def test_a_size_that_is_asked_for_stays_in_a_larger_flash() -> None:
    found = planned(MINI, 8 * M, wishes={"fatfs": 100 * K, "ota_0": 1856 * K})
    assert by_name(found.secondary) == by_name(MINI.secondary)
    assert [p.size for p in found.primary.apps] == [1856 * K] * 2
    assert room_for_user(found.primary, found.secondary) == 4 * M + 36 * K


def test_two_megabytes_cost_the_second_slot() -> None:
    found = planned(MINI, 2 * M)
    assert found.removed == ("ota_1",)
    assert (found.notes[0].level, found.notes[0].lost) == ("warning", "ota")
    assert by_name(found.primary)["ota_0"] == (0x60000, 1664)
    assert by_name(found.secondary) == by_name(MINI.secondary)


def test_a_file_system_of_no_use_goes_before_the_second_slot_does() -> None:
    wishes = {"mfg_nvs": 1200 * K}
    size = 1280 * K
    with_it = planned(MINI, wishes=wishes, app_size=size)
    assert with_it.removed == ()
    tight = {"mfg_nvs": 1400 * K}
    assert planned(MINI, wishes=tight, app_size=size, unused=("fatfs",)).removed == ("fatfs",)
    assert planned(MINI, wishes=tight, app_size=size).removed == ("ota_1",)


def test_a_file_system_of_no_use_makes_room_for_the_application() -> None:
    wroom = module("ESP32/WROOM-32")
    unused, used = (planned(wroom, 2 * M, unused=names) for names in (("fatfs",), ()))
    assert (unused.secondary.find("fatfs").size, unused.app_room) == (100 * K, 1664 * K)
    assert (used.secondary.find("fatfs").size, used.app_room) == (576 * K, 1216 * K)


def test_nothing_moves_in_vain() -> None:
    """Where there is more flash, unused room stays, and what is not in the way stays in its place."""
    found = planned(module("ESP32/ESP32-D2WD"), 4 * M)
    assert by_name(found.primary)["at_customize"] == (0x20000, 384 + 1024)
    assert by_name(found.primary)["factory"] == (0x180000, 1536 + 1024)
    assert by_name(found.secondary) == {"mfg_nvs": (0x21000, 112)}


def test_the_application_decides_what_goes() -> None:
    for size, gone in ((1664 * K, ()), (1664 * K + 1, ("ota_1",))):
        found = planned(MINI, wishes={"fatfs": 416 * K}, app_size=size)
        assert found.removed == gone
        assert found.app_room >= size


def test_the_example_of_the_user_guide() -> None:
    """A partition ``test`` of 4 KB for the ESP32-S2-MINI goes to the first gap, behind ``mfg_nvs``."""
    found = planned(module("ESP32S2/MINI"), wishes={"test": 4 * K})
    assert [str(change) for change in found.changes] == ["test: new, 4 KB at 0x3d000"]
    assert found.secondary.find("test") == Partition("test", 0x40, 1, 0x3D000, 4 * K)


def test_what_a_removed_slot_frees_is_used() -> None:
    found = planned(MINI, wishes={"ota_1": 0})
    assert by_name(found.primary)["ota_0"] == (0x150000, 1856 + 896)
    assert by_name(found.primary)["at_customize"] == (0x1E000, 264 + 960)
    larger = planned(MINI, wishes={"ota_0": 2 * M})  # two of them do not fit
    assert larger.removed == ("ota_1",)
    assert (larger.app_room, larger.primary.end) == (2 * M, 4 * M)


def test_kinds_of_new_partitions() -> None:
    found = planned(MINI, 8 * M, wishes={"a": 4 * K, "b": 8 * K, "coredump": 64 * K, "spiffs": 64 * K})
    kinds = {p.name: (p.type, p.subtype) for p in found.secondary}
    assert kinds == {
        "mfg_nvs": (1, 2),
        "fatfs": (1, 0x81),
        "a": (0x40, 1),
        "b": (0x40, 2),
        "coredump": (1, 3),
        "spiffs": (1, 0x82),
    }


def test_a_second_slot_is_added() -> None:
    each = module("ESP32/ESP32-D2WD")
    found = planned(each, 4 * M, second_slot=True)
    assert [p.name for p in found.primary.apps] == ["ota_0", "ota_1"]
    assert len({p.size for p in found.primary.apps}) == 1
    assert found.removed == ("factory",)
    assert not any(note.lost for note in found.notes)
    assert planned(each, 4 * M, wishes={"ota_1": 1 * M}).primary.find("ota_1").size == 1 * M
    with pytest.raises(InputError, match=r"2 slots for an application of 1152 KB .* do not fit"):
        planned(each, second_slot=True)


REFUSED = {
    "nvs": (256 * K, "keeps its size of 56 KB"),
    "mfg_nvs": (8 * K, "too small for NVS"),
    "fatfs": (5000, "5000 bytes are not a multiple of 4 KB"),
    "ota_0": (1300 * K, "not a multiple of 64 KB"),
    "a name of more than sixteen": (4 * K, "room for 16"),
    "ä": (4 * K, "cannot be the name"),
    "with,comma": (4 * K, "cannot be the name"),
    "ota_7": (64 * K, "name of an application partition"),
    "storage": (64 * K, "name of the partition of compressed updates"),
    "x": (-4096, "not a multiple"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wishes_that_cannot_be(name: str) -> None:
    size, message = REFUSED[name]
    with pytest.raises(InputError, match=re.escape(message)):
        planned(MINI, wishes={name: size})


@pytest.mark.parametrize("name", ["mfg_nvs", "at_customize", "ota_0"])
def test_what_the_firmware_needs_cannot_be_removed(name: str) -> None:
    with pytest.raises(InputError, match="cannot be removed"):
        planned(MINI, wishes={name: 0})


def test_the_error_has_the_numbers_and_the_remedies() -> None:
    with pytest.raises(InputError) as caught:
        planned(MINI, 1 * M, app_size=1498464, wishes={"data": 64 * K})
    assert caught.value.message == (
        "1 MB of flash: an application of 1498464 bytes does not fit: 704 KB are left, 768 KB too few"
    )
    assert caught.value.hint == (
        "make the application 768 KB smaller: --silence, or features off; "
        "--partition mfg_nvs=60K frees 64 KB; a flash of 2 MB has the room"
    )
    with pytest.raises(InputError, match="at_customize: 64 KB is 64 KB too small"):
        planned(MINI, wishes={"at_customize": 64 * K, "fatfs": 0})


def test_tables_that_are_wrong_already() -> None:
    overlapping = PartitionTable((*MINI.primary, Partition("x", 1, 6, 0x230000, 4 * K)), md5=False)
    with pytest.raises(InputError, match=r"tables are wrong: .*overlaps"):
        plan(overlapping, MINI.secondary, table_offset=0x8000, flash_size=4 * M)
    homeless = PartitionTable(tuple(p for p in MINI.primary if p.name != "at_customize"), md5=False)
    with pytest.raises(InputError, match="at_customize"):
        plan(homeless, MINI.secondary, table_offset=0x8000, flash_size=4 * M)
    with pytest.raises(InputError, match="not the size of a flash"):
        planned(MINI, 3 * M)


def test_spellings() -> None:
    assert [parse_flash_size(text) for text in ("8MB", "8M", "0x800000", "8mb", "8192K")] == [8 * M] * 5
    for wrong in ("", "MB", "3MB", "32MB", "8GB", "-8M"):
        with pytest.raises(InputError, match="is not the size of a flash"):
            parse_flash_size(wrong)
    assert parse_wish("mfg_nvs=256K") == parse_wish("mfg_nvs=0x40000") == ("mfg_nvs", 256 * K)
    assert parse_wish("x=1MB") == ("x", 1 * M)
    for wrong in ("x", "=4K", "x=", "x=y"):
        with pytest.raises(InputError):
            parse_wish(wrong)
    assert smallest_flash(MINI.primary) == 4 * M


def test_the_planner_loads_nothing_heavy() -> None:
    heavy = "('yaml', 'esptool', 'click')"
    code = f"import sys, esp_at_tools.build.planner; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
