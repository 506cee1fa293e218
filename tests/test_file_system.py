"""File-system images: what the firmware's drivers read in them, and what is refused."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import sys
from pathlib import Path

import pytest

from esp_at_tools.build import file_system
from esp_at_tools.build.file_system import fat_options, file_system_image
from esp_at_tools.build.file_tree import flat, read_tree
from esp_at_tools.build.littlefs_image import littlefs_image
from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.formats.fat import FatOptions, fat_volume, short_names
from esp_at_tools.formats.wear_levelling import WearLevelling

KB = 1 << 10
LFN = {"WL_SECTOR_SIZE_512": "y", "FATFS_LFN_HEAP": "y"}
PERF = {**LFN, "WL_SECTOR_MODE_PERF": "y"}
WHOLE_SECTORS = {"WL_SECTOR_SIZE_4096": "y", "FATFS_LFN_STACK": "y"}
SHORT = {"WL_SECTOR_SIZE_4096": "y", "FATFS_LFN_NONE": "y"}
LITTLEFS = {"AT_FS_LITTLEFS": "y"}


def write_tree(folder: Path, *, seed: int = 1) -> dict[str, bytes]:
    chance = random.Random(seed)
    found = {
        "index.html": b"<html>" * 300,
        "EMPTY": b"",
        "lower.TXT": b"x",
        "Mixed.Txt": b"y" * 512,
        ".hidden": b"z" * 4096,
        "a long name, with = and +.json": chance.randbytes(5000),
        "a long name, with more.json": chance.randbytes(4097),
        "sub/deep/Deeper Folder/file": chance.randbytes(513),
        **{f"sub/file number {number}.dat": chance.randbytes(chance.randrange(900)) for number in range(60)},
    }
    for name, contents in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    return found


def read_by_fatfs(volume: bytes, sector_size: int) -> dict[str, bytes]:
    """Return path → contents as the library's own walk over the directories finds them."""
    from fatfs import PartitionExtended, RamDisk, wrapper

    partition = wrapper.Partition(RamDisk(bytearray(volume), sector_size))
    partition.mount()
    try:
        extended = PartitionExtended(partition)
        return {
            f"{folder.rstrip('/')}/{name}"[1:]: extended.read_file(f"{folder.rstrip('/')}/{name}")
            for folder, _, names in extended.walk("/")
            for name in names
        }
    finally:
        partition.unmount()


@pytest.mark.parametrize(
    ("size", "options", "sector_size", "safe"),
    [
        (160 * KB, LFN, 512, True),
        (576 * KB, PERF, 512, False),
        (3072 * KB, LFN, 512, True),  # FAT16
        (1024 * KB, WHOLE_SECTORS, 4096, False),
        (1024 * KB, {**LFN, "FATFS_SECTORS_PER_CLUSTER_4": "y"}, 512, True),
    ],
)
def test_fatfs_finds_every_file(tmp_path, size, options, sector_size, safe):
    files = write_tree(tmp_path)
    image = file_system_image(tmp_path, size, options)
    assert len(image) == size
    volume = WearLevelling(size, safe=safe).unwrap(image)
    assert read_by_fatfs(volume, sector_size) == files


def test_a_volume_of_few_sectors(tmp_path):
    """100 KB in sectors of 4096 bytes, which ESP-IDF mounts and the library does not: 14 clusters."""
    (tmp_path / "index.html").write_bytes(b"x" * (13 * 4096))
    options = {"WL_SECTOR_SIZE": "4096", "FATFS_LFN_HEAP": "y"}
    image = file_system_image(tmp_path, 100 * KB, options)
    assert struct.unpack_from("<H", image, 4096 + 19) == (21,)
    (tmp_path / "more").write_bytes(b"x" * 4097)
    with pytest.raises(FormatError, match="need 61440 of 57344 bytes, in clusters of 4096"):
        file_system_image(tmp_path, 100 * KB, options)


@pytest.mark.parametrize(
    ("size", "options", "boot", "states", "movable", "state_crc", "config_crc"),
    [
        (
            *(100 * KB, LFN, "0002010100020002 9800 f80100"),
            *((0x16000, 0x17000), 0x16, "0f411ab6", "3164b8c2"),
        ),
        (
            *(1024 * KB, PERF, "0002010100020002 d007 f80600"),
            *((0xFB000, 0xFD000), 0xFB, "12c0b22c", "e062b54f"),
        ),
        (
            *(2048 * KB, WHOLE_SECTORS, "0010010100020002 f801 f80100"),
            *((0x1F9000, 0x1FC000), 0x1F9, "ac549b35", "2989326a"),
        ),
    ],
)
def test_layout_is_that_of_esp_idf(tmp_path, size, options, boot, states, movable, state_crc, config_crc):
    """What wl_fatfsgen.py of ESP-IDF v5.4.4 writes with the same device number and ``--wl_mode``."""
    image = file_system_image(tmp_path, size, options)
    assert image[:4096] == b"\xff" * 4096
    head = bytes.fromhex("ebfe904d53444f53352e30" + boot + "3f00ff000000000000000000800029")
    assert image[4096:].startswith(head)
    state = struct.pack("<8I28x", 0, movable, 0, 0, 16, 4096, 2, 0x45535041) + bytes.fromhex(state_crc)
    for address in states:
        assert image[address : address + 4096] == state.ljust(4096, b"\xff")
    config = struct.pack("<8I", 0, size, 4096, 4096, 16, 16, 2, 32) + bytes.fromhex(config_crc) + bytes(12)
    assert image[-4096:] == config.ljust(4096, b"\xff")


@pytest.mark.parametrize(
    ("options", "partition"), [(LFN, "fatfs"), (SHORT, "fatfs"), (LITTLEFS, "fs_storage")]
)
def test_same_files_same_bytes(tmp_path, options, partition):
    first, second = tmp_path / "first", tmp_path / "second"
    names = ["B.TXT", "A.TXT", "C"]
    for folder, order in ((first, names), (second, names[::-1])):
        folder.mkdir()
        for name in order:
            (folder / name).write_text(name)
            os.utime(folder / name, (len(str(folder)) * 10_000_000,) * 2)
    image = file_system_image(first, 512 * KB, options, partition=partition)
    assert image == file_system_image(second, 512 * KB, options, partition=partition)
    (second / "C").write_text("c")
    assert image != file_system_image(second, 512 * KB, options, partition=partition)


def test_dates_are_the_first_of_fat(tmp_path):
    (tmp_path / "A.TXT").write_text("a")
    image = file_system_image(tmp_path, 512 * KB, SHORT)
    entry = image[image.index(b"A       TXT") :][:32]
    assert entry == b"A       TXT\x20" + bytes(4) + b"\x21\0\x21\0" + bytes(4) + b"\x21\0\x02\0\x01\0\0\0"


def test_short_names_are_unique_and_long_ones_kept():
    tree = {f"index {number}.html": b"" for number in range(120)} | {"INDEX~7.HTM": b"", "x.y.z": b""}
    shorts = short_names(tree, FatOptions())
    assert len(set(shorts.values())) == len(tree)
    assert shorts["INDEX~7.HTM"] == b"INDEX~7.HTM"
    assert shorts["index 0.html"] == b"INDEX0~1.HTM"
    assert shorts["x.y.z"] == b"XY~1.Z"
    assert all(len(short.partition(b".")[0]) <= 8 for short in shorts.values())


def test_names_in_other_scripts(tmp_path):
    (tmp_path / "中文说明.txt").write_text("one")
    (tmp_path / "Grüße.txt").write_text("two")
    image = file_system_image(tmp_path, 512 * KB, {**LFN, "FATFS_API_ENCODING_UTF_8": "y"})
    assert "中文说明".encode("utf-16-le") in image
    with pytest.raises(FormatError, match="'中' is not in cp437"):
        file_system_image(tmp_path, 512 * KB, LFN)
    assert len(file_system_image(tmp_path, 512 * KB, {**LFN, "FATFS_API_ENCODING_UTF_8": "y"})) == 512 * KB
    (tmp_path / "Grüße.txt").unlink()
    assert "中文说明".encode("utf-16-le") in file_system_image(
        tmp_path, 512 * KB, {**LFN, "FATFS_CODEPAGE": "936"}
    )
    with pytest.raises(FormatError, match="not in ascii"):
        file_system_image(tmp_path, 512 * KB, {**LFN, "FATFS_CODEPAGE": "771"})


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["toolongname.txt"], SHORT, "'toolongname.txt': is not of the form 8.3"),
        (["a.html"], SHORT, "not of the form 8.3"),
        (["a b"], SHORT, "not of the form 8.3"),
        (["a:b"], LFN, "':' is not allowed"),
        (["a\\b"], LFN, r"'\\\\' is not allowed"),
        (["dot."], LFN, "does not end with a dot"),
        (["Read.me", "read.ME"], LFN, "'Read.me' and 'read.ME' are the same name"),
        (["n" * 100], {**LFN, "FATFS_MAX_LFN": "99"}, "100 characters, and the firmware reads 99"),
        (["n" * 64], LITTLEFS, "64 bytes, and the firmware reads 63"),
        (["中" * 21 + "x"], LITTLEFS, "64 bytes, and the firmware reads 63"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be made there")
def test_names_that_are_refused(tmp_path, names, options, message):
    for name in names:
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.iterdir())) < len(names):
        pytest.skip("this file system ignores case")
    with pytest.raises(FormatError, match=message):
        file_system_image(tmp_path, 512 * KB, options)


def test_the_last_byte_fits(tmp_path):
    """100 KB leave 152 sectors, of which 1 + 2 + 32 are not for files."""
    (tmp_path / "A").write_bytes(b"a" * (117 * 512))
    assert file_system_image(tmp_path, 100 * KB, LFN)
    (tmp_path / "A").write_bytes(b"a" * (117 * 512 + 1))
    with pytest.raises(FormatError, match="need 60416 of 59904 bytes, in clusters of 512"):
        file_system_image(tmp_path, 100 * KB, LFN)


def test_littlefs_says_how_much_it_needs(tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 60_000)
    with pytest.raises(FormatError, match=r"need (\d+) of 61440 bytes, in blocks of 4096") as caught:
        file_system_image(tmp_path, 60 * KB, LITTLEFS)
    needed = int(caught.value.message.partition("need ")[2].split()[0])
    assert file_system_image(tmp_path, needed, LITTLEFS)
    with pytest.raises(FormatError):
        file_system_image(tmp_path, needed - 4096, LITTLEFS)


def test_far_too_large(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 60_000)
    for options in (LFN, LITTLEFS):
        with pytest.raises(InputError, match="120000 bytes of files for 102400 bytes of partition"):
            file_system_image(tmp_path, 100 * KB, options)


def test_the_uppermost_folder_is_full(tmp_path):
    for number in range(256):
        (tmp_path / f"long name {number}").write_text("")
    assert file_system_image(tmp_path, 512 * KB, LFN)
    (tmp_path / "A").write_text("")
    with pytest.raises(FormatError, match="needs 513 of 512 entries"):
        file_system_image(tmp_path, 512 * KB, LFN)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "0 bytes cannot be made"),
        (4097, {}, "4097 bytes cannot be made"),
        (16 * KB, SHORT, "cannot hold FAT with wear levelling"),
        (4 * KB, LITTLEFS, "LittleFS does not fit into 4096 bytes"),
        (40 * KB, SHORT, "there can be no FAT volume of 6 sectors"),
        (512 * KB, {**LFN, "FATFS_FAT16": "y"}, "make a FAT12, not a FAT16"),
        (512 * KB, {**LFN, "FATFS_MAX_LFN": "many"}, "CONFIG_FATFS_MAX_LFN=many: is not from 12 to 255"),
        (512 * KB, {**LITTLEFS, "LITTLEFS_CACHE_SIZE": "384"}, "LITTLEFS_CACHE_SIZE=384"),
        (512 * KB, {**LITTLEFS, "LITTLEFS_LOOKAHEAD_SIZE": "12"}, "not a multiple of 8"),
    ],
)
def test_partitions_and_options_that_cannot_be(tmp_path, size, options, message):
    with pytest.raises(InputError, match=message):
        file_system_image(tmp_path, size, options)


def test_fat16_by_name(tmp_path):
    """More than 4085 clusters, FatFs's limit, make it FAT16."""
    assert file_system_image(tmp_path, 3072 * KB, {**LFN, "FATFS_FAT16": "y"})
    for clusters, kind in ((0xFF5, 12), (0xFF6, 16)):
        sectors = 1 + 2 * 17 + 32 + clusters
        volume = fat_volume({"A": b"a" * 1000, "B": b"b"}, sectors * 512, FatOptions(fat_type=kind))
        assert read_by_fatfs(volume, 512) == {"A": b"a" * 1000, "B": b"b"}


@pytest.mark.parametrize("size", [240 * KB, 576 * KB])
def test_littlefs_finds_every_file(tmp_path, size):
    from littlefs import LittleFS
    from littlefs.context import UserContext

    files = write_tree(tmp_path)
    image = file_system_image(tmp_path, size, {}, partition="fs_storage")
    assert len(image) == size
    # As esp_littlefs.c configures the driver: the number of blocks is found in the image.
    memory = UserContext(size)
    memory.buffer = bytearray(image)
    system = LittleFS(
        memory, mount=False, block_size=4096, block_count=0, read_size=128,
        prog_size=128, cache_size=512, lookahead_size=128, block_cycles=512, name_max=255,
    )  # fmt: skip
    system.mount()
    assert (system.fs_stat().name_max, system.block_count) == (64, size // 4096)
    found = {}
    for folder, _, names in system.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with system.open(path, "rb") as stream:
                found[path[1:]] = stream.read()
    assert found == files


def test_littlefs_suits_a_small_cache(tmp_path):
    """A file of 400 bytes may lie in its directory only where the driver's cache takes it."""
    contents = random.Random(1).randbytes(400)
    (tmp_path / "file").write_bytes(contents)
    small = {
        **LITTLEFS,
        "LITTLEFS_CACHE_SIZE": "128",
        "LITTLEFS_READ_SIZE": "16",
        "LITTLEFS_WRITE_SIZE": "16",
    }
    assert file_system_image(tmp_path, 64 * KB, small).index(contents) % 4096 == 0
    assert file_system_image(tmp_path, 64 * KB, LITTLEFS).index(contents) % 4096 != 0


def test_littlefs_of_an_older_version(tmp_path):
    image = file_system_image(tmp_path, 64 * KB, {**LITTLEFS, "LITTLEFS_DISK_VERSION_2_0": "y"})
    assert struct.unpack_from("<I", image, 20) == (0x00020000,)
    assert struct.unpack_from("<I", file_system_image(tmp_path, 64 * KB, LITTLEFS), 20) == (0x00020001,)


@pytest.mark.parametrize(
    ("options", "partition", "littlefs"),
    [
        ({}, "fatfs", False),
        ({}, "fs_storage", True),
        ({"AT_FS_FATFS": "y"}, "fs_storage", False),
        ({"CONFIG_AT_FS_LITTLEFS": "y"}, "fs_storage", True),
        ({"AT_FS_FATFS_LEGACY": "y"}, "fatfs", False),
    ],
)
def test_which_file_system(tmp_path, options, partition, littlefs):
    image = file_system_image(tmp_path, 128 * KB, options, partition=partition)
    assert (image[8:16] == b"littlefs") == littlefs


def test_options_of_official_modules(shared):
    """Every sdkconfig of the official tree: 512-byte sectors in the safe mode, long names, code page 437."""
    paths = sorted((shared / "esp-at").glob("v*/expected/*/*/sdkconfig"))
    assert len(paths) == 37
    for path in paths:
        lines = [line for line in path.read_text().splitlines() if line.startswith("CONFIG_")]
        options = dict(line.removeprefix("CONFIG_").split("=", 1) for line in lines)
        assert fat_options(options) == FatOptions(512, 1, 255, "cp437")


def test_where_nothing_is_said_of_fat(tmp_path):
    write_tree(tmp_path)
    assert file_system_image(tmp_path, 576 * KB, {}) == file_system_image(tmp_path, 576 * KB, LFN)
    assert fat_options({"FATFS_LFN_NONE": "y"}) == FatOptions(4096, 1, 0, "cp437")
    assert fat_options({}) == FatOptions(512, 1, 255, "cp437")


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
class TestFolders:
    def test_links_inside_are_followed(self, tmp_path):
        (tmp_path / "a").write_text("a")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "b").symlink_to("../a")
        assert flat(read_tree(tmp_path, 100)) == {"/a": b"a", "/sub": None, "/sub/b": b"a"}

    def test_links_out_of_it_are_refused(self, tmp_path):
        folder = tmp_path / "folder"
        folder.mkdir()
        (tmp_path / "secret").write_text("secret")
        (folder / "link").symlink_to("../secret")
        with pytest.raises(InputError, match="leads out of the folder"):
            file_system_image(folder, 512 * KB, LFN)

    @pytest.mark.parametrize("target", [".", "nothing", "loop"])
    def test_links_to_nowhere(self, tmp_path, target):
        (tmp_path / "loop").symlink_to(target)
        with pytest.raises(InputError, match="loop"):
            file_system_image(tmp_path, 512 * KB, LFN)

    def test_pipes_are_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="pipe: is a pipe"):
            file_system_image(tmp_path, 512 * KB, LFN)

    def test_depth_is_limited(self, tmp_path):
        (tmp_path / "/".join(["d"] * 40)).mkdir(parents=True)
        with pytest.raises(InputError, match="32 folders deep"):
            file_system_image(tmp_path, 512 * KB, LFN)

    @pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
    def test_names_that_are_not_utf_8(self, tmp_path):
        (tmp_path / os.fsdecode(b"\xff")).write_text("x")
        for options in (LFN, LITTLEFS):
            with pytest.raises(FormatError, match=r"encoding|UTF-8"):
                file_system_image(tmp_path, 512 * KB, options)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        file_system_image(tmp_path / "none", 512 * KB, LFN)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file: is not a folder"):
        file_system_image(tmp_path / "file", 512 * KB, LFN)


@pytest.mark.parametrize("seed", range(4))
def test_awkward_names_and_trees(seed):
    """Whatever the names: an image that the driver reads back, or an error that says why not."""
    chance = random.Random(seed)
    characters = "abAB01._- ~+" * 8 + "".join(map(chr, range(32, 47))) + ":;<=>?[]éüßÄñ░αΩ中😀ıİſ"

    def name() -> str:
        count = chance.choice([1, 3, 8, 9, 12, 13, 14, 26, 27, 60])
        return "".join(chance.choice(characters) for _ in range(count)).rstrip(". ") or "x"

    def tree(depth: int = 0) -> dict[str, object]:
        sizes = [0, 1, 511, 512, 513, 1500]
        return {
            name(): tree(depth + 1)
            if depth < 3 and chance.random() < 0.2
            else chance.randbytes(chance.choice(sizes))
            for _ in range(chance.randint(0, 6))
        }

    made = 0
    for _ in range(60):
        options = {
            "WL_SECTOR_SIZE": chance.choice(["512", "4096"]),
            "FATFS_LFN_HEAP": "y",
            "FATFS_API_ENCODING_UTF_8": chance.choice(["y", "n"]),
            "FATFS_SECTORS_PER_CLUSTER": chance.choice(["1", "2", "8"]),
        }
        contents = tree()
        for make in (file_system._fat_image, littlefs_image):
            with contextlib.suppress(FormatError):  # any other error fails, one of reading back above all
                made += len(make(contents, 512 * KB, options)) == 512 * KB
    assert made > 40
