"""The CSV of a release stays what its partition is, and comes back as it was."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_at_tools.errors import FormatError
from esp_at_tools.firmware.mfg_csv import edit_mfg_csv
from esp_at_tools.formats.nvs import NvsPartition

SIZE = 0x8000
FILES = {f"raw/{name}.pem": f"contents of {name}".encode() * 9 for name in ("a", "b", "c", "d")}
OFFICIAL = """\
key,type,encoding,value
server_ca,namespace,,
server_ca,file,binary,raw/a.pem
client_ca,namespace,,
client_ca.0,file,binary,raw/b.pem
client_ca.1,file,binary,raw/b.pem
factory_param,namespace,,
version,data,i8,4
module_name,data,string,"MINI-1"
country_code,data,string,"CN"
uart_baudrate,data,i32,115200
ble_data,namespace,,
cfg0,data,string,"0,16,0x2800,0x01,2,2,A002"
cfg1,data,string,"1,16,0x2803,0x01,1,1,02"
"""


def made(text: str) -> NvsPartition:
    return NvsPartition.from_csv(text, SIZE, read_file=FILES.__getitem__)


def copy(partition: NvsPartition) -> NvsPartition:
    return NvsPartition.from_bytes(partition.to_bytes())


def edited(text: str, *changes) -> tuple[str, NvsPartition, NvsPartition]:
    """The text after changes (namespace, key, type, value; None removes), the partition before and after."""
    old = made(text)
    new = copy(old)
    for namespace, key, kind, value in changes:
        if value is None:
            assert new.remove(namespace, key)
        else:
            new.set(namespace, key, kind, value)
    return edit_mfg_csv(text, old, copy(new)), old, copy(new)


def check(text: str, partition: NvsPartition) -> None:
    assert made(text).to_bytes() == partition.to_bytes()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_the_rows_of_changed_entries_change(end):
    text = OFFICIAL.replace("\n", end)
    changed, _, new = edited(
        text,
        ("factory_param", "uart_baudrate", "i32", 921600),
        ("factory_param", "country_code", "string", "US"),
        ("ble_data", "cfg1", "string", '1,16,0x2803,0x01,1,1,"'),
    )
    expected = text.replace("115200", "921600").replace('"CN"', '"US"')
    assert changed == expected.replace('1,1,02"', '1,1,"""')
    check(changed, new)


def test_the_quotes_of_a_file_are_kept():
    bare = (
        OFFICIAL.replace('"MINI-1"', "MINI-1").replace('"CN"', "CN").replace('"0,', "0,").split("ble_data")[0]
    )
    changed, _, _ = edited(bare, ("factory_param", "country_code", "string", "US"))
    assert changed == bare.replace(",CN", ",US")
    changed, _, _ = edited(OFFICIAL, ("factory_param", "country_code", "string", "US"))
    assert 'country_code,data,string,"US"' in changed


def test_a_row_that_names_a_file_is_kept_and_comes_back():
    changed, old, new = edited(OFFICIAL, ("client_ca", "client_ca.1", "blob", b"new"))
    digest = hashlib.sha256(FILES["raw/b.pem"]).hexdigest()
    lines = changed.splitlines()
    place = lines.index("client_ca.1,data,base64,bmV3")
    kept = f"# replaced by esp-at-tool: client_ca, sha256 {digest}: client_ca.1,file,binary,raw/b.pem"
    assert lines[place - 1] == kept
    check(changed, new)
    assert edit_mfg_csv(changed, new, old) == OFFICIAL


def test_of_two_items_with_the_same_bytes_each_gets_its_own_row_back():
    first, old, new = edited(OFFICIAL, ("client_ca", "client_ca.0", "blob", None))
    second_new = copy(new)
    second_new.set("client_ca", "client_ca.1", "blob", b"other")
    second = edit_mfg_csv(first, new, copy(second_new))
    check(second, copy(second_new))
    assert edit_mfg_csv(second, copy(second_new), old) == OFFICIAL


def test_a_second_replacement_keeps_the_first_row():
    once, old, new = edited(OFFICIAL, ("server_ca", "server_ca", "blob", b"one"))
    newer = copy(new)
    newer.set("server_ca", "server_ca", "blob", b"two")
    twice = edit_mfg_csv(once, new, copy(newer))
    assert twice.count("# replaced") == 1
    assert edit_mfg_csv(twice, copy(newer), old) == OFFICIAL


def test_a_removed_item_and_its_namespace_come_back():
    text = OFFICIAL.partition("client_ca,")[0]  # server_ca is the last namespace, so it goes with its item
    removed, old, new = edited(text, ("server_ca", "server_ca", "blob", None))
    assert "server_ca,namespace" not in removed
    check(removed, new)
    assert edit_mfg_csv(removed, new, old) == text


def test_new_entries_come_where_the_partition_has_them():
    changed, old, new = edited(
        OFFICIAL,
        ("factory_param", "sys_store", "u8", 1),
        ("mqtt_ca", "mqtt_ca", "blob", b"ca"),
        ("ble_data", "cfg2", "string", "2,16,0xC300,0x01,1,1,30"),
    )
    lines = changed.splitlines()
    assert lines[lines.index("uart_baudrate,data,i32,115200") + 1] == "sys_store,data,u8,1"
    assert lines[-2:] == ["mqtt_ca,namespace,,", "mqtt_ca,data,base64,Y2E="]
    check(changed, new)
    assert edit_mfg_csv(changed, new, old) == OFFICIAL


def test_comments_blank_lines_and_a_missing_line_end_stay():
    text = OFFICIAL.replace("version", "# our own\n\nversion").removesuffix("\n")
    changed, _, _ = edited(text.replace("\n\n", "\n"), ("factory_param", "version", "i8", 5))
    assert changed == text.replace("\n\n", "\n").replace("i8,4", "i8,5") + "\n"


def test_a_line_separator_in_a_value_is_no_line_end():
    text = OFFICIAL.replace("MINI-1", "a\u2028b\x0bc")
    changed, _, new = edited(text, ("factory_param", "module_name", "string", "x"))
    assert changed == OFFICIAL.replace("MINI-1", "x")
    check(changed, new)


SEVERAL_LINES = """\
key,type,encoding,value
factory_param,namespace,,
module_name,data,string,"first
# no part of the value
country_code,data,string,XX

last"
country_code,data,string,"CN"
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_of_several_lines_is_one_row(end):
    text = SEVERAL_LINES.replace("\n", end)
    assert (
        made(text).get("factory_param", "module_name").value == "first\ncountry_code,data,string,XX\n\nlast"
    )
    changed, _, new = edited(text, ("factory_param", "country_code", "string", "US"))
    assert changed == text.replace("CN", "US")
    check(changed, new)
    changed, _, new = edited(text, ("factory_param", "module_name", "string", "x"))
    before, _, _ = text.partition("module_name")
    assert changed == f'{before}module_name,data,string,"x"{end}country_code,data,string,"CN"{end}'
    check(changed, new)
    changed, _, new = edited(text, ("factory_param", "module_name", "string", None))
    assert changed == f'{before}country_code,data,string,"CN"{end}'
    check(changed, new)


def test_a_comment_within_a_value_of_several_lines_is_not_taken_for_a_kept_row():
    comment = (
        f"# replaced by esp-at-tool: factory_param, sha256 {hashlib.sha256(b'US').hexdigest()}: x,file,,x"
    )
    text = SEVERAL_LINES.replace("# no part of the value", comment)
    changed, _, new = edited(text, ("factory_param", "country_code", "string", "US"))
    assert changed == text.replace("CN", "US")
    check(changed, new)


def test_a_row_of_several_lines_that_names_a_file_is_no_comment(monkeypatch):
    monkeypatch.setitem(FILES, "a\nb", b"contents")
    text = OFFICIAL.replace("raw/a.pem", '"a\nb"')
    changed, _, new = edited(text, ("server_ca", "server_ca", "blob", b"x"))
    assert "# replaced" not in changed
    check(changed, new)


def test_an_escaped_key_is_found():
    text = OFFICIAL.replace("country_code", "key_in_base64:Y291bnRyeV9jb2Rl")
    changed, _, new = edited(text, ("factory_param", "country_code", "string", "US"))
    assert changed == OFFICIAL.replace("CN", "US")
    check(changed, new)


def test_a_csv_that_means_something_else_than_it_seems_is_not_edited():
    # The generator puts the rows after a namespace that comes again into the newest one.
    text = OFFICIAL + "factory_param,namespace,,\ncfg2,data,string,two\n"
    old = made(text)
    assert old.get("ble_data", "cfg2").value == "two"
    new = copy(old)
    new.set("ble_data", "cfg2", "string", "three")
    with pytest.raises(FormatError, match="its rows of ble_data cfg2 are not what they seem") as caught:
        edit_mfg_csv(text, old, copy(new))
    assert "nvs generate" in caught.value.hint
    new = copy(old)
    new.set("factory_param", "version", "i8", 5)
    assert edit_mfg_csv(text, old, copy(new)) == text.replace("i8,4", "i8,5")


def test_a_change_that_would_make_the_csv_unreadable_is_refused():
    # The columns stand in another order, which new rows do not follow.
    text = "type,key,encoding,value\nnamespace,n,,\ndata,a,u8,1\n"
    old = made(text)
    new = copy(old)
    new.set("n", "a", "u8", 2)
    with pytest.raises(FormatError, match="not what they seem"):
        edit_mfg_csv(text, old, copy(new))


def test_a_csv_that_nothing_can_read_is_edited_line_by_line():
    old, new = made(OFFICIAL), made(OFFICIAL.replace("115200", "9600"))
    for broken in ('x,data,string,"open\n', "x,data,string,\0\n"):
        text = OFFICIAL + broken
        assert edit_mfg_csv(text, old, new) == text.replace("115200", "9600")


def test_a_value_longer_than_the_csv_reader_takes():
    long = "x,data,base64," + "A" * 200_000
    old, new = made(OFFICIAL), made(OFFICIAL.replace("115200", "9600"))
    changed = edit_mfg_csv(OFFICIAL + long + "\n", old, new)
    assert changed == OFFICIAL.replace("115200", "9600") + long + "\n"


def test_repeating_an_interrupted_edit_changes_nothing_more():
    changes = [
        ("factory_param", "uart_baudrate", "i32", 9600),
        ("factory_param", "sys_store", "u8", 1),
        ("server_ca", "server_ca", "blob", b"one"),
        ("client_ca", "client_ca.0", "blob", None),
        ("mqtt_ca", "mqtt_ca", "blob", b"ca"),
    ]
    changed, old, new = edited(OFFICIAL, *changes)
    assert edit_mfg_csv(changed, old, new) == changed


# --- by chance -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        ("server_ca", "server_ca"),
        ("client_ca", "client_ca.0"),
        ("client_ca", "client_ca.1"),
        ("mqtt_ca", "mqtt_ca"),
    ]
)
BLOBS = st.sampled_from([*FILES.values(), b"x", b"\0\xff", b"--"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
CHANGES = st.lists(
    st.one_of(
        st.tuples(NAMES, st.just("blob"), st.none() | BLOBS),
        st.tuples(st.just(("factory_param", "country_code")), st.just("string"), st.none() | TEXTS),
        st.tuples(st.just(("factory_param", "version")), st.just("i8"), st.none() | st.integers(-128, 127)),
        st.tuples(st.just(("ble_data", "cfg1")), st.just("string"), st.none() | TEXTS),
        st.tuples(st.just(("ble_data", "cfg2")), st.just("string"), st.none() | TEXTS),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_whatever_is_changed_the_csv_makes_the_partition(steps):
    text, partition = OFFICIAL, made(OFFICIAL)
    for step in steps:
        new = copy(partition)
        for (namespace, key), kind, value in step:
            if value is None:
                new.remove(namespace, key)
            else:
                new.set(namespace, key, kind, value)
        new = copy(new)
        text = edit_mfg_csv(text, partition, new)
        entries = {(entry.namespace, entry.key): entry.value for entry in made(text).entries}
        assert entries == {(entry.namespace, entry.key): entry.value for entry in new.entries}
        assert edit_mfg_csv(text, partition, new) == text or "file,binary" in text
        partition = new
    back = edit_mfg_csv(text, partition, made(OFFICIAL))
    entries = {(entry.namespace, entry.key): entry.value for entry in made(back).entries}
    assert entries == {(entry.namespace, entry.key): entry.value for entry in made(OFFICIAL).entries}
    for line in OFFICIAL.splitlines():
        if ",file," in line:
            assert line in back.splitlines()
