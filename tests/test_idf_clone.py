"""A clone of ESP-IDF at its commit: made, brought to another, gone on with, and never over a user's files."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from idf_standin import BRANCH, StandIn, git, write

from esp_at_tools.errors import EspAtError, ExternalToolError, InputError
from esp_at_tools.workspace import idf
from esp_at_tools.workspace.fetch_parts import begin_parts, drop_broken_fetch
from esp_at_tools.workspace.git import Git
from esp_at_tools.workspace.idf_state import Follow, Wanted, look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")
SILENT = Follow(*[lambda _: None] * 3)


@pytest.fixture
def standin(remotes: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The repositories, and the environment for them."""
    for name, value in remotes.environment().items():
        monkeypatch.setenv(name, value)
    return remotes


@pytest.fixture
def wanted(standin: StandIn, tmp_path: Path) -> Wanted:
    """The pinned commit, for a place where nothing is."""
    (tmp_path / "esp-at-ü").mkdir()
    place = tmp_path / "esp-at-ü/esp-idf"
    return Wanted("ESP-IDF", place, str(standin.repository), BRANCH, standin.commit)


def test_a_submodule_that_was_cloned_in_half_is_cloned_anew(standin: StandIn, wanted: Wanted) -> None:
    idf.obtain(wanted, SILENT)
    wanted.place.rename(wanted.partial)
    shutil.rmtree(wanted.partial / ".git/modules/components/lib/objects")
    assert idf.obtain(wanted, SILENT) == "cloned"
    assert look(wanted.place) == dataclasses.replace(look(wanted.place), head=standin.commit, missing=())


def test_submodules_that_are_missing_are_fetched(standin: StandIn, wanted: Wanted, tmp_path: Path) -> None:
    other = dataclasses.replace(wanted, place=tmp_path / "idf")
    git(tmp_path, "clone", "-q", "--recursive", str(standin.repository), "idf")
    git(other.place, "checkout", "-q", standin.commit)
    git(other.place, "submodule", "--quiet", "deinit", "-f", "components/lib")
    assert look(other.place).missing == ("components/lib",)
    assert "lacks submodules: components/lib" in idf.why_not(wanted, other.place)
    assert idf.obtain(other, SILENT) == "submodules fetched"
    assert (other.place / "components/lib/deep/deep.c").is_file()
    assert look(other.place).missing == ()
    git(other.place / "components/lib", "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(other.place / "components/lib", "rev-parse", "HEAD")
    assert idf.obtain(other, SILENT) == "", "a submodule that somebody keeps at a commit of his own is left"
    assert git(other.place / "components/lib", "rev-parse", "HEAD") == mine
    assert idf.why_not(wanted, other.place) == ""


def test_two_installs_at_once(wanted: Wanted) -> None:
    import fcntl

    git(wanted.place.parent, "init", "-q", str(wanted.partial))
    with (wanted.partial / ".git/esp-at-tool.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another install is cloning ESP-IDF there"):
            idf.obtain(wanted, SILENT)
    assert idf.obtain(wanted, SILENT) == "cloned"


def test_another_commit_is_checked_out(standin: StandIn, wanted: Wanted) -> None:
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    assert look(wanted.place).head == standin.newest
    assert idf.obtain(wanted, SILENT) == "updated"
    assert look(wanted.place).head == standin.commit
    assert idf.obtain(wanted, SILENT) == ""


@pytest.mark.parametrize("whole", [False, True])
def test_commits_of_the_user_are_not_left_without_a_word(
    standin: StandIn, wanted: Wanted, *, whole: bool
) -> None:
    said: list[str] = []
    follow = dataclasses.replace(SILENT, warn=said.append)
    wanted = dataclasses.replace(wanted, whole=whole)
    newest = dataclasses.replace(wanted, commit=standin.newest)
    for each in (newest, wanted, newest):
        idf.obtain(each, follow)
    assert said == [], "what was fetched is nobody's"
    for number in range(2):
        git(wanted.place, "commit", "-q", "--allow-empty", "-m", f"mine {number}")
    mine = look(wanted.place).head
    assert idf.obtain(wanted, follow) == "updated"
    (warning,) = said
    assert f"leaving 2 commits of yours behind, up to {mine[:10]}, on no branch" in warning
    keep = warning.partition("to keep them: ")[2].replace("NAME", "kept")
    words = shlex.split(keep)
    assert words[:3] == ["git", "-C", str(wanted.place)]
    git(wanted.place, *words[3:])
    assert git(wanted.place, "rev-parse", "kept") == mine
    git(wanted.place, "checkout", "-q", "--detach", "kept")
    idf.obtain(newest, follow)
    assert said == [warning], "a branch has them"


def test_changed_files_are_not_lost(standin: StandIn, wanted: Wanted) -> None:
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    write(wanted.place / "README.md", "mine")
    with pytest.raises(InputError) as refused:
        idf.obtain(wanted, SILENT)
    assert (
        f"at commit {standin.newest[:10]}, and the module is built with release/v5.4" in refused.value.message
    )
    assert "README.md" in refused.value.message
    assert (wanted.place / "README.md").read_text() == "mine"
    assert look(wanted.place).head == standin.newest


def test_an_update_that_was_interrupted_goes_on(standin: StandIn, wanted: Wanted) -> None:
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    (wanted.place / ".git/esp-at-tool-update").write_text(standin.commit)
    (wanted.place / "README.md").unlink()  # git had got so far
    write(wanted.place / ".git/index.lock", "")
    assert idf.obtain(wanted, SILENT) == "updated"
    assert (look(wanted.place).head, (wanted.place / "README.md").is_file()) == (standin.commit, True)


def test_an_update_that_failed_for_the_network_loses_nothing_later(standin: StandIn, wanted: Wanted) -> None:
    newest = dataclasses.replace(wanted, commit=standin.newest)
    idf.obtain(newest, SILENT)
    absent = dataclasses.replace(newest, commit="f" * 40, repository=str(wanted.place.parent / "nothing"))
    with pytest.raises(ExternalToolError):
        idf.obtain(absent, SILENT)
    write(newest.place / "README.md", "mine")
    assert idf.obtain(newest, SILENT) == ""
    assert (newest.place / "README.md").read_text() == "mine"


def test_an_update_that_failed_for_a_submodule_loses_nothing_later(
    standin: StandIn, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = dataclasses.replace(wanted, commit=standin.newest)
    idf.obtain(newest, SILENT)

    def fail(*_: object) -> None:
        raise ExternalToolError("no network", "")

    with monkeypatch.context() as patch:
        patch.setattr(idf.idf_clone, "update_submodules", fail)
        with pytest.raises(ExternalToolError):
            idf.obtain(wanted, SILENT)
    write(wanted.place / "README.md", "mine")
    with pytest.raises(InputError, match=r"would be lost: README\.md"):
        idf.obtain(newest, SILENT)
    assert idf.obtain(wanted, SILENT) == "updated"
    assert (wanted.place / "README.md").read_text() == "mine"


def test_files_that_git_does_not_know_are_not_overwritten(standin: StandIn, wanted: Wanted) -> None:
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    git(wanted.place, "rm", "-q", "README.md")
    git(wanted.place, "commit", "-q", "-m", "mine")
    write(wanted.place / "README.md", "mine")
    for _ in range(2):
        with pytest.raises(ExternalToolError, match=r"README\.md"):
            idf.obtain(wanted, SILENT)
    assert (wanted.place / "README.md").read_text() == "mine"


def test_files_in_the_place_of_a_submodule_stay(wanted: Wanted) -> None:
    idf.obtain(wanted, SILENT)
    git(wanted.place, "submodule", "--quiet", "deinit", "-f", "components/lib")
    write(wanted.place / "components/lib/mine.c", "mine")
    idf.idf_clone.drop_unfinished_submodules(Git(wanted.place))
    assert (wanted.place / "components/lib/mine.c").read_text() == "mine"


def test_what_comes_in_while_the_clone_is_made_stays(wanted: Wanted) -> None:
    meanwhile = Follow(lambda _: None, warn=print, line=lambda _: write(wanted.place / "mine.txt", "mine"))
    with pytest.raises(InputError, match="is there by now"):
        idf.obtain(wanted, meanwhile)
    assert (wanted.place / "mine.txt").read_text() == "mine"
    assert (wanted.partial / "README.md").is_file()


def test_a_folder_that_is_no_repository_is_left_alone(wanted: Wanted) -> None:
    write(wanted.place / "mine.txt", "mine")
    with pytest.raises(InputError, match="no Git repository"):
        idf.obtain(wanted, SILENT)
    assert (wanted.place / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_no_hindrance(standin: StandIn, wanted: Wanted) -> None:
    (wanted.place).mkdir()
    assert idf.obtain(wanted, SILENT) == "cloned"
    assert look(wanted.place).head == standin.commit


def test_a_server_that_gives_no_single_commits(standin: StandIn, wanted: Wanted, tmp_path: Path) -> None:
    for name in ("esp-idf", "esp-lib", "deep"):
        copy = tmp_path / f"mirror/{name}.git"
        git(tmp_path, "clone", "-q", "--bare", str(standin.remotes / f"{name}.git"), str(copy))
        git(copy, "config", "protocol.version", "0")
    steps: list[str] = []
    repository = (tmp_path / "mirror/esp-idf.git").as_uri()
    wanted = dataclasses.replace(wanted, repository=repository)
    git_config = write(tmp_path / "gitconfig", "[protocol]\n\tversion = 0\n")
    os.environ["GIT_CONFIG_GLOBAL"] = str(git_config)
    assert idf.obtain(wanted, Follow(steps.append, lambda _: None, print)) == "cloned"
    assert any("that commit alone cannot be had" in step for step in steps)
    assert look(wanted.place).head == standin.commit


def test_a_connection_that_breaks_does_not_lead_to_the_whole_branch(wanted: Wanted, monkeypatch) -> None:
    fetched = []

    def follow(git: Git, *args: str, **_: object) -> None:
        fetched.append(args)
        raise git.failure(args, 128, "error: RPC failed; curl 92 HTTP/2 stream 5\nfatal: early EOF")

    monkeypatch.setattr(Git, "follow", follow)
    with pytest.raises(ExternalToolError, match="early EOF"):
        idf.obtain(wanted, SILENT)
    assert [args[2:] for args in fetched] == [
        ("--depth=1", "--no-tags", *filters, "origin", wanted.commit)
        for filters in ((), ("--filter=blob:none",))
    ]


def test_parts_that_could_not_begin_leave_no_partial_clone(wanted: Wanted) -> None:
    own = Git(wanted.place.parent)
    git(own.folder, "init", "-q")
    git(own.folder, "remote", "add", "origin", wanted.repository)
    with pytest.raises(ExternalToolError):
        begin_parts(own, "f" * 40, print)
    assert "partial" not in git(own.folder, "config", "--list", "--local")
    begin_parts(own, wanted.commit, print)
    drop_broken_fetch(own)
    assert "partial" in git(own.folder, "config", "--list", "--local"), "that goes on"


def test_a_server_that_gives_no_parts_is_not_asked_for_them_for_ever(wanted: Wanted, monkeypatch) -> None:
    run = Git.run

    def refuse(git: Git, *args: str) -> str:
        if "--filter=blob:none" in args:
            raise git.failure(args, 128, "fatal: remote error: upload-pack: not our ref 0123456789")
        return run(git, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Git, "run", refuse)
        patch.setattr(Git, "follow", breaking_off(Git.follow))
        with pytest.raises(ExternalToolError, match="not our ref"):
            idf.obtain(wanted, SILENT)
    assert not wanted.partial.exists()
    assert idf.obtain(wanted, SILENT) == "cloned"


def breaking_off(follow: Callable[..., None]) -> Callable[..., None]:
    """Return ``Git.follow`` over a connection that breaks off in fetches of everything."""

    def broken(git: Git, *args: str, line: Callable[[str], None]) -> None:
        if args[0] == "fetch" and "--filter=blob:none" not in args:
            write(git.folder / ".git/objects/pack/tmp_pack_x", "half a pack")
            raise git.failure(args, 128, "fetch-pack: unexpected disconnect while reading sideband packet")
        follow(git, *args, line=line)

    return broken


def test_a_fetch_that_broke_off_goes_on_in_parts(standin: StandIn, wanted: Wanted, monkeypatch) -> None:
    run = Git.run
    parts: list[tuple[str, ...]] = []

    def broken_run(git: Git, *args: str) -> str:
        if "--filter=blob:none" in args:
            parts.append(args[args.index("origin") + 1 :])
            if len(parts) == 3:
                raise git.failure(args, 128, "fatal: early EOF")
        return run(git, *args)

    monkeypatch.setattr(Git, "follow", breaking_off(Git.follow))
    monkeypatch.setattr(Git, "run", broken_run)
    monkeypatch.setattr("esp_at_tools.workspace.fetch_parts._PART", 2)
    with pytest.raises(ExternalToolError, match="early EOF"):
        idf.obtain(wanted, SILENT)
    assert not list((wanted.partial / ".git/objects/pack").glob("tmp_*"))
    assert idf.obtain(wanted, SILENT) == "cloned"
    assert parts[3] == parts[2], "what had come stays"
    assert len(parts) > 4
    names = [name for part in (*parts[:2], *parts[3:]) for name in part]
    assert len(names) == len(set(names))
    state = look(wanted.place)
    assert (state.head, state.missing) == (standin.commit, ())
    assert git(wanted.place, "status", "--porcelain") == ""
    assert "partial" not in git(wanted.place, "config", "--list", "--local")
    git(wanted.place, "fsck", "--full")
    left = [path.suffix for path in (wanted.place / ".git/objects/pack").iterdir()]
    assert set(left) <= {".pack", ".idx", ".rev"}


def test_a_commit_that_the_branch_has_not(wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, commit="0123456789" * 4)
    with pytest.raises(EspAtError) as failed:
        idf.obtain(wanted, SILENT)
    assert "has no commit 0123456789" in failed.value.message
    assert not wanted.place.exists()
    assert not wanted.partial.exists()


def test_the_pinned_commit_s_tag_comes_along(standin: StandIn, wanted: Wanted) -> None:
    git(standin.repository, "tag", "-a", "-m", "x", "v5.4.9", standin.commit)
    try:
        idf.obtain(wanted, SILENT)
    finally:
        git(standin.repository, "tag", "-d", "v5.4.9")
    assert git(wanted.place, "describe", "--tags") == "v5.4.9"
