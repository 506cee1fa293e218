"""esp-at's patches: applied, missing or conflicting; applied and taken back, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest
from idf_standin import GIT_ENVIRONMENT, commit, git, write

from esp_at_tools.errors import ExternalToolError, FormatError, InputError
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.workspace.patch_diff import read_diff
from esp_at_tools.workspace.patch_list import AFTER, BEFORE, Patch
from esp_at_tools.workspace.patches import Ground, apply_patches, patch_states, undo_patches
from esp_at_tools.workspace.unchanged import unchanged_on_error

LINES = [f"line {number}\n" for number in range(1, 61)]
LIB = "components/bt/lib"


@pytest.fixture(autouse=True)
def _nobodys_configuration(monkeypatch):
    for name, value in GIT_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


class Tree:
    """A checkout with an ESP-IDF that has a submodule and a library."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.idf = root / "esp-idf"
        self.before: dict[str, tuple[bytes, int]] = {}
        write(self.idf / "main/a.c", "".join(LINES))
        write(self.idf / "main/b.c", "".join(reversed(LINES)))
        write(self.idf / LIB / "lib.a", b"\0old\xff")
        write(self.idf / "components/mqtt/mqtt.c", "".join(LINES))
        commit(self.idf / "components/mqtt")
        git(self.idf, "init", "-q")
        git(self.idf, "config", "advice.addEmbeddedRepo", "false")
        commit(self.idf)
        (root / "patches").mkdir()

    @property
    def ground(self) -> Ground:
        return Ground(self.root)

    def edit(self, name: str, *numbers: int, text: str = "changed") -> None:
        """Change some lines of a file of ESP-IDF."""
        path = self.idf / name
        lines = path.read_text().splitlines(keepends=True)
        for number in numbers:
            lines[number - 1] = f"{text} {number}\n"
        path.write_text("".join(lines))

    def patch(self, name: str, path: str = "esp-idf", *, marked: bool = True, **more: object) -> Patch:
        """Make a patch of what was changed since the last commit or patch, and take the change back."""
        folder = self.root / path
        text = git(folder, "diff", "--binary", "--relative" if more.pop("relative", False) else "--binary")
        write(self.root / "patches" / name, text + "\n")
        git(folder, "checkout", "-q", "--", ".")
        return self.listed(name, path, marked=marked, **more)

    def listed(self, name: str, path: str = "esp-idf", **more: object) -> Patch:
        values = {"note": "", "when": BEFORE, "dependencies": (), "marked": True, **more}
        place = self.root / "patches"
        return Patch(name, place / name, Path(path), place=place / "patch_list.ini", **values)  # type: ignore[arg-type]

    def files(self) -> dict[str, tuple[bytes, int]]:
        return {
            path.relative_to(self.root).as_posix(): (path.read_bytes(), path.stat().st_mode)
            for path in sorted(self.idf.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }

    def states(self, *patches: Patch, config: Sdkconfig | None = None) -> list[str]:
        return [state.state for state in patch_states(Ground(self.root, config=config), patches)]


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / "at")


def test_a_patch_that_git_refuses_at_last_takes_the_others_back(tree):
    tree.edit("main/a.c", 10)
    first = tree.patch("first.patch")
    write(tree.root / "elsewhere/c.c", "".join(LINES))
    (tree.idf / "linked").symlink_to(tree.root / "elsewhere")
    write(tree.root / "patches/second.patch", first.source.read_text().replace("main/a.c", "linked/c.c"))
    second = tree.listed("second.patch")
    before = tree.files()
    assert tree.states(first, second) == ["missing", "missing"]
    with pytest.raises(ExternalToolError, match="beyond a symbolic link"):
        apply_patches(tree.ground, [first, second])
    assert tree.files() == before


@pytest.fixture
def fill_disk(tmp_path, monkeypatch):
    """Let git write no file of more than 4 KB in its repositories; return what switches that on."""
    write(
        tmp_path / "bin/git",
        '#!/bin/sh\ncase "$PWD" in *esp-at-patches-*) ;; *) ulimit -f 8 ;; esac\n'
        f'exec "{shutil.which("git")}" "$@"\n',
    ).chmod(0o755)
    return lambda: monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


LONG = "".join(f"a long line {number}\n" for number in range(500))


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of a shell stands for the full disk")
def test_a_disk_that_fills_up_leaves_no_half_of_a_patch(tree, fill_disk):
    tree.edit("main/a.c", 10)
    first = tree.patch("first.patch")
    tree.edit("main/a.c", 40)
    write(tree.idf / "main/b.c", LONG)
    write(tree.idf / "alone/deep/x.c", "new\n")
    git(tree.idf, "add", "-N", "alone/deep/x.c")
    second = tree.patch("second.patch")
    git(tree.idf, "rm", "-rqf", "alone")
    tree.edit("main/a.c", 50, text="mine")
    before = tree.files()
    assert tree.states(first, second) == ["missing", "missing"]
    fill_disk()
    with pytest.raises(ExternalToolError, match=r"apply .*second\.patch"):
        apply_patches(tree.ground, [first, second])
    assert tree.files() == before
    assert not (tree.idf / "alone").exists()
    assert tree.states(first, second) == ["missing", "missing"]


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of a shell stands for the full disk")
def test_a_disk_that_fills_up_leaves_a_patch_in(tree, fill_disk):
    write(tree.idf / "main/b.c", LONG)
    commit(tree.idf)
    tree.edit("main/a.c", 10)
    write(tree.idf / "main/b.c", "short\n")
    patch = tree.patch("first.patch")
    apply_patches(tree.ground, [patch])
    before = tree.files()
    fill_disk()
    with pytest.raises(ExternalToolError, match=r"apply -R .*first\.patch"):
        undo_patches(tree.ground, [patch])
    assert tree.files() == before
    assert tree.states(patch) == ["applied"]


def test_a_file_that_cannot_be_copied_is_not_changed(tree, monkeypatch):
    before = tree.files()

    def full(source: Path, target: Path, **_: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(InputError, match="No space left"), unchanged_on_error([tree.idf / "main/a.c"]):
        pytest.fail("the block began")
    assert tree.files() == before


def test_missing_applied_and_taken_back(tree):
    tree.edit("main/a.c", 10, 40)
    tree.edit("main/b.c", 20)
    first = tree.patch("first.patch")
    tree.edit("components/mqtt/mqtt.c", 30)
    second = tree.patch("second.patch", "esp-idf/components/mqtt", when=AFTER)
    before = tree.files()
    assert tree.states(first, second) == ["missing", "missing"]
    assert tree.files() == before
    apply_patches(tree.ground, [first, second])
    after = tree.files()
    assert after["esp-idf/main/a.c"][0].count(b"changed") == 2
    assert after["esp-idf/components/mqtt/mqtt.c"][0].count(b"changed") == 1
    assert after["esp-idf/first.patch"][0] == first.source.read_bytes()  # as esp-at's own tool leaves it
    assert "esp-idf/components/mqtt/second.patch" in after
    assert tree.states(first, second) == ["applied", "applied"]
    apply_patches(tree.ground, [first, second])
    assert tree.files() == after
    undo_patches(tree.ground, [first, second])
    assert tree.files() == before
    undo_patches(tree.ground, [first, second])
    assert tree.files() == before


def test_a_conflict_names_the_file_and_the_hunk_and_changes_nothing(tree):
    tree.edit("main/b.c", 5)
    fits = tree.patch("fits.patch")
    tree.edit("main/a.c", 10, 40)
    tree.edit("main/b.c", 20)
    patch = tree.patch("first.patch")
    tree.edit("main/a.c", 40, text="the user's own")
    before = tree.files()
    with pytest.raises(InputError) as caught:
        apply_patches(tree.ground, [fits, patch])
    assert f"{patch.source}: does not fit" in caught.value.message
    assert "main/a.c: hunk 2 of 2 at line 37: @@ -37,7 +37,7 @@" in caught.value.message
    assert "diff main/a.c" in caught.value.hint
    assert tree.files() == before
    assert tree.states(fits, patch) == ["missing", "conflicting"]


def test_half_of_a_patch_is_a_conflict(tree):
    tree.edit("main/a.c", 10, 40)
    patch = tree.patch("first.patch")
    tree.edit("main/a.c", 10)
    (state,) = patch_states(tree.ground, [patch])
    assert state.state == "conflicting"
    assert "hunk 1 of 2" in state.message


def test_changes_of_the_user_stay(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch")
    tree.edit("main/a.c", 50, text="mine")
    write(tree.idf / "new.txt", "mine")
    before = tree.files()
    apply_patches(tree.ground, [patch])
    assert b"mine 50" in tree.files()["esp-idf/main/a.c"][0]
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


def test_one_patch_on_the_lines_of_another(tree):
    tree.edit("main/a.c", 10)
    first = tree.patch("first.patch")
    git(tree.idf, "apply", str(first.source))
    commit(tree.idf)
    tree.edit("main/a.c", 11)
    second = tree.patch("second.patch")
    git(tree.idf, "reset", "-q", "--hard", "HEAD~1")
    before = tree.files()
    assert tree.states(first, second) == ["missing", "missing"]
    apply_patches(tree.ground, [first, second])
    assert tree.states(first, second) == ["applied", "applied"]
    undo_patches(tree.ground, [first, second])
    assert tree.files() == before


def test_what_is_in_the_commit_is_never_taken_out(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch")
    git(tree.idf, "apply", str(patch.source))
    commit(tree.idf)
    before = tree.files()
    assert tree.states(patch) == ["included"]
    apply_patches(tree.ground, [patch])
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


def test_a_copy_of_a_patch_that_is_not_in(tree):
    """After a forced checkout of another commit esp-at's own tool believes that its patches are in."""
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch")
    apply_patches(tree.ground, [patch])
    git(tree.idf, "checkout", "-q", "--force", "HEAD")
    (state,) = patch_states(tree.ground, [patch])
    assert (state.state, state.marked) == ("missing", True)
    apply_patches(tree.ground, [patch])
    assert tree.states(patch) == ["applied"]
    git(tree.idf, "checkout", "-q", "--force", "HEAD")
    undo_patches(tree.ground, [patch])
    assert not (tree.idf / "first.patch").exists()


def test_a_patch_that_was_built_upon_cannot_be_taken_back(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch", marked=False)
    apply_patches(tree.ground, [patch])
    tree.edit("main/a.c", 10, text="mine")
    before = tree.files()
    (state,) = undo_patches(tree.ground, [patch])
    assert state.state == "conflicting"
    assert tree.files() == before


def test_new_renamed_and_deleted_files(tree):
    git(tree.idf, "mv", "main/b.c", "main/ü c.c")
    git(tree.idf, "rm", "-q", "main/a.c")
    write(tree.idf / "main/new.c", "new\n")
    git(tree.idf, "add", "-A")
    write(tree.root / "patches/first.patch", git(tree.idf, "diff", "--cached", "-M") + "\n")
    git(tree.idf, "reset", "-q", "--hard")
    patch = tree.listed("first.patch")
    paths = [each.paths for each in read_diff(patch.source)]
    assert paths == [("main/a.c",), ("main/new.c",), ("main/b.c", "main/ü c.c")]
    before = tree.files()
    apply_patches(tree.ground, [patch])
    assert {name for name in tree.files() if "main" in name} == {"esp-idf/main/new.c", "esp-idf/main/ü c.c"}
    assert tree.states(patch) == ["applied"]
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


def test_paths_with_spaces_and_letters_of_all_kinds(tmp_path):
    tree = Tree(tmp_path / "mein Gerät $x")
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch")
    apply_patches(tree.ground, [patch])
    assert tree.states(patch) == ["applied"]


def test_an_esp_idf_elsewhere(tree, tmp_path):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch")
    other = tmp_path / "other"
    shutil.copytree(tree.idf, other)
    before = tree.files()
    ground = Ground(tree.root, idf=other)
    apply_patches(ground, [patch])
    assert (other / "main/a.c").read_text().count("changed") == 1
    assert tree.files() == before


def test_a_folder_below_the_top_takes_its_own_files_alone(tree):
    """As rmaker-esp_rainmaker.patch, which is applied in one of the folders that it changes."""
    tree.edit("main/a.c", 10)
    tree.edit("components/mqtt/mqtt.c", 10)  # not in this repository's diff
    write(tree.idf / LIB / "x.c", "x\n")
    git(tree.idf, "add", f"{LIB}/x.c")
    git(tree.idf, "commit", "-q", "-m", "x")
    write(tree.idf / LIB / "x.c", "y\n")
    patch = tree.patch("first.patch", "esp-idf")
    patch = tree.listed("first.patch", "esp-idf/main", marked=False)
    apply_patches(tree.ground, [patch])
    assert "changed" in (tree.idf / "main/a.c").read_text()
    assert (tree.idf / LIB / "x.c").read_text() == "x\n"
    assert tree.states(patch) == ["applied"]


def test_an_esp_idf_without_a_repository(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch", marked=False)
    shutil.rmtree(tree.idf / ".git")
    commit(tree.root)  # the checkout around it is one
    git(tree.root, "rm", "-rq", "--cached", ".")
    before = tree.files()
    apply_patches(tree.ground, [patch])
    assert "changed" in (tree.idf / "main/a.c").read_text()
    assert tree.states(patch) == ["applied"]
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


def test_what_is_not_needed(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch", when=AFTER, dependencies=("CONFIG_X",))
    nowhere = tree.listed("first.patch", "esp-idf/nowhere", dependencies=("AT_X",))
    assert tree.states(patch, nowhere) == ["undecided", "not needed"]
    assert tree.states(patch, config=Sdkconfig.from_text("CONFIG_Y=y\n")) == ["not needed"]
    assert tree.states(patch, config=Sdkconfig.from_text("CONFIG_X=y\n")) == ["missing"]
    (state,) = patch_states(Ground(tree.root, environment={"AT_X": "AT_X"}), [nowhere])
    assert state.state == "conflicting"
    assert "nowhere: no such folder" in state.message


def test_a_patch_for_another_chip_that_is_listed_by_chance(tree):
    tree.edit("main/a.c", 10)
    patch = tree.patch("first.patch", by_chance=True)
    assert tree.states(patch) == ["missing"]
    tree.edit("main/a.c", 10, text="mine")
    assert tree.states(patch) == ["not needed"]


# --- files that take the place of others --------------------------------------------------------------


@pytest.mark.parametrize("path", [f"esp-idf/{LIB}/lib.a", f"esp-idf/{LIB}"])
def test_a_library_takes_the_place_of_another(tree, path):
    write(tree.root / "patches/lib.a", b"\0new\xff").chmod(0o755)
    patch = tree.listed("lib.a", path)
    before = tree.files()
    assert tree.states(patch) == ["missing"]
    apply_patches(tree.ground, [patch])
    data, mode = tree.files()[f"esp-idf/{LIB}/lib.a"]
    assert (data, mode & 0o777) == (b"\0new\xff", 0o755)  # as esp-at's own tool copies it
    assert tree.states(patch) == ["applied"]
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


def test_a_library_of_the_users_own_is_not_replaced(tree):
    write(tree.root / "patches/lib.a", b"new")
    patch = tree.listed("lib.a", f"esp-idf/{LIB}/lib.a")
    write(tree.idf / LIB / "lib.a", b"mine")
    with pytest.raises(InputError, match="is neither the file of its repository nor"):
        apply_patches(tree.ground, [patch])
    assert (tree.idf / LIB / "lib.a").read_bytes() == b"mine"


def test_a_folder_takes_the_place_of_files(tree):
    write(tree.root / "patches/overlay/main/a.c", "other\n")
    write(tree.root / "patches/overlay/more/new.c", "new\n")
    patch = tree.listed("overlay", "esp-idf")
    before = tree.files()
    apply_patches(tree.ground, [patch])
    assert tree.files()["esp-idf/more/new.c"][0] == b"new\n"
    assert tree.states(patch) == ["applied"]
    undo_patches(tree.ground, [patch])
    assert tree.files() == before


# --- patches that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no patch"),
        ("hello\n", "is no patch"),
        ("--- a/../../x\n+++ b/../../x\n@@ -1 +1 @@\n-a\n+b\n", "leads out of the tree"),
        ("--- a//etc/passwd\n+++ b//etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "leads out of the tree"),
        (
            "diff --git a/main/a.c b/main/a.c\n--- a/main/a.c\n+++ b/main/a.c\n@@ -1,9 +1 @@\n-a\n+b\n",
            "is damaged",
        ),
    ],
)
def test_patches_that_are_none(tree, text, message):
    write(tree.root / "patches/first.patch", text)
    with pytest.raises(FormatError, match=message):
        patch_states(tree.ground, [tree.listed("first.patch")])


def test_a_patch_that_is_listed_but_not_there(tree):
    (state,) = patch_states(tree.ground, [tree.listed("first.patch")])
    assert state.state == "conflicting"
    assert "first.patch: no such patch" in state.message
