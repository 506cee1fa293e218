"""ESP-IDF, and the other repositories of a module, brought to their pinned commits.

What the user has in the place of one is changed only if it is a clean clone at another commit; that is what
build.py does, which also tries with one that has changed files.

Source: ``at_sync_submodule`` in ``build.py`` of esp-at v5.0.1.0.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path, PurePosixPath

from esp_at_tools.errors import ExternalToolError, InputError
from esp_at_tools.workspace import idf_clone
from esp_at_tools.workspace.checkout import REDIRECTIONS
from esp_at_tools.workspace.git import Git, without_credentials
from esp_at_tools.workspace.idf_state import (
    Follow,
    State,
    Wanted,
    absent_submodules,
    explain_mismatch,
    few,
    git_folder,
    is_empty_clone,
    look,
    lost_link,
    modified,
)

MIRRORS = {address.split("//")[1].split(".")[0]: address for address in REDIRECTIONS.values()}
"""Name of a mirror → the folder of its repositories: ``jihulab``, ``gitee``."""

_MARK = "esp-at-tool-update"
"""A file in the repository that names the commit to which a clean clone is being brought. While it is there,
files that differ are those that git had not got to."""
_PINNED = "refs/esp-at-tool/pinned"
"""A reference to the commit that was checked out last."""
_CHECKED_OUT = "checked out"
"""What it says behind the commit when only the submodules are left: what differs then is the user's."""


def mirrored(repository: str, mirror: str) -> str:
    """Return the address of a repository at a mirror.

    Args:
        repository: the official address.
        mirror: a name of :data:`MIRRORS`, the address of a folder of repositories, or that of the repository
            itself (one that ends as the official one does, with or without ``.git``); ``""`` for none.
    """
    if not mirror:
        return repository
    base = MIRRORS.get(mirror, mirror).rstrip("/")
    name = PurePosixPath(repository).name
    if PurePosixPath(base).name.removesuffix(".git") == name.removesuffix(".git"):
        return base
    return f"{base}/{name}"


def obtain(wanted: Wanted, follow: Follow) -> str:
    """Bring a repository to its commit, and return what was done: ``""`` if it was there already.

    Raises:
        InputError: something else stands there, or files of it are changed; it is left as it is.
        ExternalToolError: git failed; the same call goes on where this one stopped.
    """
    state = look(wanted.place)
    if not state.exists:
        return idf_clone.clone(wanted, follow)
    lost = lost_link(wanted.place)
    if lost:
        raise InputError(lost, f"bring back what was there, or remove the link to have {wanted.name} cloned")
    if not state.is_repository:
        raise InputError(
            f"{wanted.place}: is no Git repository, so that nobody can tell which {wanted.name} it is",
            f"move it elsewhere, and {wanted.name} is cloned; or make it a link to a clone at commit"
            f" {wanted.commit}",
        )
    if not state.head and is_empty_clone(wanted.place):
        return idf_clone.clone(wanted, follow)
    if state.is_at(wanted.commit) and not _interrupted(wanted):
        return _complete(wanted, state, follow)
    return _update(wanted, state, follow)


# --- a clone that is there ------------------------------------------------------------


def _complete(wanted: Wanted, state: State, follow: Follow) -> str:
    """Fetch what submodules lack; those that somebody keeps at another commit are left alone."""
    if not absent_submodules(wanted, state):
        return ""
    if state.is_link:
        _check_submodules(wanted, state)
    git = Git(wanted.place)
    idf_clone.drop_unfinished_submodules(git)
    idf_clone.update_submodules(git, wanted, follow)
    return "submodules fetched"


def _check_submodules(wanted: Wanted, state: State) -> None:
    absent = absent_submodules(wanted, state)
    if absent:
        raise InputError(
            f"{os.path.realpath(wanted.place)}: this {wanted.name} lacks submodules: {few(absent)}",
            "in it: git submodule update --init --recursive",
        )


def _interrupted(wanted: Wanted) -> bool:
    return (git_folder(wanted.place) / _MARK).is_file()


def _update(wanted: Wanted, state: State, follow: Follow) -> str:
    """Bring a clean clone to another commit, as build.py does; anything else is left alone."""
    if state.is_link:
        raise InputError(
            explain_mismatch(wanted, state),
            "it is a link, and what it leads to is not changed: check out that commit there, or remove the"
            f" link to have {wanted.name} cloned; the AT library may fail with another {wanted.name}",
        )
    git, mark = Git(wanted.place), git_folder(wanted.place) / _MARK
    if not (_left_by(mark) and state.is_at(wanted.commit)):
        follow.step(
            f"{wanted.name}: from commit {state.head[:10]} to {wanted.reference} ({wanted.commit[:10]})"
        )
        _check_out(git, wanted, state, follow)
    git.ask("submodule", "sync", "--quiet", "--recursive")
    idf_clone.drop_unfinished_submodules(git)
    idf_clone.update_submodules(git, wanted, follow)
    idf_clone.verify(wanted.place, wanted)
    mark.unlink()
    return "updated"


def _left_by(mark: Path) -> bool:
    """Tell whether an update has left its submodules only."""
    return mark.is_file() and mark.read_bytes().rstrip().endswith(_CHECKED_OUT.encode())


def _check_out(git: Git, wanted: Wanted, state: State, follow: Follow) -> None:
    """Check the commit out: over what an interrupted checkout has left, but never over the user's files."""
    home = git_folder(wanted.place)
    mark = home / _MARK
    only_submodules = _left_by(mark)
    if only_submodules or not mark.is_file():
        changed = modified(wanted.place, submodules=not only_submodules)
        if changed:
            raise InputError(
                f"{explain_mismatch(wanted, state)}; changed files in it would be lost: {few(changed)}",
                "esp-at-tool clean undoes esp-at's patches; keep changes of yours with git stash or a commit",
            )
        force: tuple[str, ...] = ()
    else:
        idf_clone.drop_locks(home)
        force = ("--force",)
    _fetch_here(git, wanted, follow)
    _warn_of_commits(git, wanted, state, follow)
    if not force:
        mark.write_text(f"{wanted.commit}\n")
    try:
        git.follow("checkout", *force, "--detach", "--progress", wanted.commit, line=follow.line)
    except ExternalToolError:
        if not force and not modified(wanted.place, submodules=not only_submodules):
            mark.unlink()  # git has refused it: a file that it does not know is in the way
        raise
    mark.write_text(f"{wanted.commit} {_CHECKED_OUT}\n")
    git.ask("update-ref", _PINNED, wanted.commit)


def _warn_of_commits(git: Git, wanted: Wanted, state: State, follow: Follow) -> None:
    """Tell of commits of the user's that no branch has: nothing would lead to them any more.

    What git has fetched by its number alone is on no branch either. Such commits are where a shallow history
    ends, or have been checked out here, which a reference of ours tells.
    """
    shallow = wanted.place / git.run("rev-parse", "--git-path", "shallow")
    fetched = shallow.read_text().split() if shallow.is_file() else []
    own = git.run("rev-list", state.head, "--not", "--glob=refs/*", wanted.commit, *fetched).split()
    if not own:
        return
    count, them = (f"{len(own)} commits", "them") if len(own) > 1 else ("a commit", "it")
    keep = shlex.join(["git", "-C", str(wanted.place), "branch", "NAME", state.head])
    follow.warn(
        f"{wanted.place}: leaving {count} of yours behind, up to {state.head[:10]}, on no branch; to keep"
        f" {them}: {keep}"
    )


def _fetch_here(git: Git, wanted: Wanted, follow: Follow) -> None:
    """Fetch the commit into a clone of the user's, whatever its remotes are called; they stay as they are."""
    if git.has_commit(wanted.commit):
        return
    shallow = git.ask("rev-parse", "--is-shallow-repository").text.strip() == "true"
    depth = ("--depth=1",) if shallow else ()
    try:
        git.follow("fetch", "--progress", *depth, wanted.repository, wanted.commit, line=follow.line)
    except ExternalToolError as error:
        follow.line(error.message)
        git.follow("fetch", "--progress", wanted.repository, wanted.reference, line=follow.line)
    if not git.has_commit(wanted.commit):
        raise ExternalToolError(
            f"{without_credentials(wanted.repository)}: {wanted.reference} has no commit {wanted.commit}",
            "check IDF_VERSION",
        )


# --- an ESP-IDF elsewhere ----------------------------------------------------------------------


def why_not(wanted: Wanted, folder: Path) -> str:
    """Return why an ESP-IDF elsewhere cannot be the one that is wanted, ``""`` if it can.

    Raises:
        ExternalToolError: git is not installed.
    """
    state = look(folder)
    if not state.is_repository or not (folder / "tools/idf_tools.py").is_file():
        return f"{folder}: is no clone of ESP-IDF"
    there = replace(wanted, place=folder)
    if not state.is_at(wanted.commit):
        return explain_mismatch(there, state)
    absent = absent_submodules(there, state)
    return f"{folder}: lacks submodules: {few(absent)}" if absent else ""


def use_existing(wanted: Wanted, folder: Path) -> str:
    """Make the place a link to an ESP-IDF elsewhere, which must be the pinned commit and is not changed.

    esp-at's ``CMakeLists.txt`` takes ESP-IDF from the folder ``esp-idf`` of the checkout alone.

    Raises:
        InputError: it is no ESP-IDF, not that commit, lacks submodules, or something stands in the place.
    """
    reason = why_not(wanted, folder)
    if reason.endswith("is no clone of ESP-IDF"):
        raise InputError(reason, "give the folder of one that git has cloned, or leave it out")
    if reason:
        raise InputError(
            f"{reason}; the AT library may fail with another one",
            f"in it: git checkout {wanted.commit} && git submodule update --init --recursive; or leave it"
            " out, and the right one is cloned beside the sources",
        )
    return _link(wanted.place, folder)


def _link(place: Path, folder: Path) -> str:
    target = Path(os.path.realpath(folder))
    if os.path.realpath(place) == str(target):
        return ""
    if place.is_symlink():
        place.unlink()
    elif look(place).exists:
        raise InputError(
            f"{place}: stands where the link to {folder} belongs", "move it elsewhere, or use it as it is"
        )
    elif place.is_dir():
        place.rmdir()
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise InputError(
            f"{place}: the link to {folder} cannot be made: {error.strerror or error}",
            "leave out --idf, and ESP-IDF is cloned there; on Windows links need developer mode",
        ) from error
    return f"linked to {target}"
