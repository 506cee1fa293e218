"""Cloning a repository at one commit with its submodules, so that an interruption loses no more than a file.

It is made in a hidden folder beside its place and takes that place when it is complete; the next run goes on
where an interrupted one stopped.

Source: ``at_sync_submodule`` in ``build.py`` of esp-at v5.0.1.0.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from esp_at_tools.errors import EspAtError, ExternalToolError, InputError
from esp_at_tools.workspace.fetch_parts import begin_parts, drop_broken_fetch, finish_parts
from esp_at_tools.workspace.git import Git, without_credentials
from esp_at_tools.workspace.idf_state import (
    Follow,
    Wanted,
    git_folder,
    gitlinks,
    has_files,
    head_of,
    is_empty_clone,
    look,
)

_BROKEN_OFF = re.compile(r"timed out|early EOF|RPC failed|Connection reset|unexpected disconnect")
"""What git says of a connection that broke off."""
_NO_NETWORK = re.compile(
    rf"Could not resolve host|Connection refused|Failed to connect|No space left|{_BROKEN_OFF.pattern}"
)
"""What git says where another way of asking would not help either."""
_REFUSED = re.compile(r"not our ref|unadvertised object|not allow")
"""What git says of a server that gives no single files."""
_LOCK = "esp-at-tool.lock"
_LOCAL = ("-c", "protocol.file.allow=always")
"""Lets submodules come from this machine, where the repository itself does."""


# --- a new clone ------------------------------------------------------------


def clone(wanted: Wanted, follow: Follow) -> str:
    partial = wanted.partial
    resumed = partial.is_dir()
    try:
        partial.mkdir(exist_ok=True)
    except OSError as error:
        raise _unmade(partial, error) from error
    git = Git(partial)
    follow.step(
        f"{'going on with the clone of' if resumed else 'cloning'} {wanted.name} {wanted.reference}"
        f" ({wanted.commit[:10]}) from {without_credentials(wanted.repository)}"
    )
    git.run("init", "--quiet")
    with _claimed(partial, wanted), _tidied(git, wanted):
        drop_locks(partial / ".git")
        drop_broken_fetch(git)
        _set_origin(git, wanted)
        _fetch(git, wanted, follow)
        git.follow("checkout", "--force", "--detach", "--progress", wanted.commit, line=follow.line)
        drop_unfinished_submodules(git, ours=True)
        update_submodules(git, wanted, follow)
        verify(partial, wanted)
        if os.path.lexists(wanted.place):  # an empty folder, or an empty clone, or a link to nothing
            _check_still_empty(wanted)
            _clear(wanted.place)
        try:
            partial.rename(wanted.place)
        except OSError as error:
            raise _unmade(wanted.place, error) from error
    return "cloned"


@contextlib.contextmanager
def _tidied(git: Git, wanted: Wanted) -> Iterator[None]:
    """Remove the folder again if not even the commit could be fetched: there is nothing to go on with."""
    try:
        yield
    except EspAtError:
        if git.folder.is_dir() and not git.has_commit(wanted.commit):
            shutil.rmtree(git.folder, ignore_errors=True)
        raise


def _check_still_empty(wanted: Wanted) -> None:
    """Refuse to replace what somebody has put there while the clone was made, which takes long."""
    state = look(wanted.place)
    if state.exists and (state.head or not state.is_repository or not is_empty_clone(wanted.place)):
        raise InputError(
            f"{wanted.place}: is there by now, so that the clone stays in {wanted.partial}",
            "keep one of the two, and run the same command again",
        )


def _clear(place: Path) -> None:
    if place.is_symlink():
        place.unlink()
        return
    git_folder = place / ".git"
    if git_folder.is_dir():
        shutil.rmtree(git_folder)
    place.rmdir()


def _unmade(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be made: {error.strerror or error}", "make its folder writable")


@contextlib.contextmanager
def _claimed(partial: Path, wanted: Wanted) -> Iterator[None]:
    """Keep others from making the same clone; the system frees the claim of a killed process."""
    with (partial / ".git" / _LOCK).open("a+b") as stream:
        try:
            _lock(stream.fileno())
        except OSError as error:
            raise InputError(
                f"{wanted.place}: another install is cloning {wanted.name} there", "wait for it to end"
            ) from error
        yield


if os.name == "nt":  # pragma: no cover - Windows

    def _lock(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:

    def _lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def drop_locks(home: Path) -> None:
    """Remove the lock files of a git that was killed while it worked for us."""
    for path in home.rglob("*.lock"):
        if path.name != _LOCK:
            path.unlink(missing_ok=True)


def _set_origin(git: Git, wanted: Wanted) -> None:
    known = git.ask("remote", "get-url", "origin")
    if known.status:
        git.run("remote", "add", "origin", wanted.repository)
    elif known.text.strip() != wanted.repository:
        git.run("remote", "set-url", "origin", wanted.repository)
        git.ask("submodule", "sync", "--quiet", "--recursive")
    if wanted.borrowed is not None:
        _borrow(git, wanted.borrowed)


def _borrow(git: Git, clone: Path) -> None:
    """Use the objects of another clone on this machine, and those of its submodules for ours."""
    said = Git(clone).ask("rev-parse", "--git-path", "objects") if clone.is_dir() else None
    if said is None or said.status:
        raise InputError(f"--reference {clone}: is no Git repository", "give a clone of ESP-IDF")
    objects = Path(os.path.realpath(clone / said.text.strip()))
    alternates = git.folder / ".git/objects/info/alternates"
    alternates.write_text(f"{objects}\n", "utf-8", "surrogateescape")
    git.run("config", "submodule.alternateLocation", "superproject")
    git.run("config", "submodule.alternateErrorStrategy", "info")


def _fetch(git: Git, wanted: Wanted, follow: Follow) -> None:
    """Fetch the commit: it alone where the server gives it, else the branch that has it."""
    reference = wanted.reference
    if wanted.whole:
        git.follow("fetch", "--progress", "--tags", "origin", reference, line=follow.line)
    elif not git.has_commit(wanted.commit):
        try:
            git.follow(
                "fetch", "--progress", "--depth=1", "--no-tags", "origin", wanted.commit, line=follow.line
            )
        except ExternalToolError as error:
            _fetch_otherwise(git, wanted, follow, error)
    if not git.has_commit(wanted.commit):
        raise ExternalToolError(
            f"{without_credentials(wanted.repository)}: {reference} has no commit {wanted.commit}",
            "check IDF_VERSION; a mirror may not have it yet",
        )
    try:
        finish_parts(git, wanted.commit, follow.line)
    except ExternalToolError as error:
        if _REFUSED.search(error.message):  # nor would it give them the next time
            shutil.rmtree(git.folder, ignore_errors=True)
        raise
    if not wanted.whole:
        _fetch_tag(git, wanted, follow)


def _fetch_otherwise(git: Git, wanted: Wanted, follow: Follow, error: ExternalToolError) -> None:
    """Fetch the commit in the way that the error leaves, if it leaves any."""
    if _BROKEN_OFF.search(error.message):
        follow.line(error.message)
        follow.step(f"the connection broke off: fetching {wanted.name} in parts, each of which stays")
        begin_parts(git, wanted.commit, follow.line)
    elif _NO_NETWORK.search(error.message):
        raise error
    else:
        follow.line(error.message)
        follow.step(f"that commit alone cannot be had: fetching {wanted.reference} of {wanted.name}")
        git.follow("fetch", "--progress", "--no-tags", "origin", wanted.reference, line=follow.line)


def _fetch_tag(git: Git, wanted: Wanted, follow: Follow) -> None:
    """Fetch the tag of the commit if it has one: the build names its ESP-IDF by that."""
    said = git.ask("ls-remote", "--tags", "origin")
    for line in said.text.splitlines() if not said.status else ():
        commit, _, reference = line.partition("\t")
        if commit.startswith(wanted.commit) and reference.startswith("refs/tags/"):
            name = reference.removesuffix("^{}")
            if git.ask("rev-parse", "--verify", "--quiet", name).status:
                git.ask("fetch", "--quiet", "--depth=1", "--no-tags", "origin", f"{name}:{name}")
            follow.line(f"tag {name.removeprefix('refs/tags/')}")
            return


# --- submodules ------------------------------------------------------------


def update_submodules(git: Git, wanted: Wanted, follow: Follow) -> None:
    if not (git.folder / ".gitmodules").is_file():
        return
    follow.step(f"fetching the submodules of {wanted.name}")
    local = _LOCAL if wanted.is_local else ()
    git.run("submodule", "init")
    _redirect_submodules(git, wanted)
    update = (*local, "submodule", "update", "--init", "--recursive", "--progress")
    if wanted.whole:
        git.follow(*update, line=follow.line)
        return
    try:
        git.follow(*update, "--depth=1", line=follow.line)
    except ExternalToolError as error:
        if _NO_NETWORK.search(error.message):
            raise
        follow.line(error.message)
        follow.step("their commits alone cannot be had: fetching them whole")
        drop_unfinished_submodules(git, ours=git.folder == wanted.partial)
        git.follow(*update, line=follow.line)


def _redirect_submodules(git: Git, wanted: Wanted) -> None:
    """Change the addresses of the submodules as a mirror has them."""
    if wanted.submodule is None:
        return
    said = git.ask("config", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.url$")
    for line in said.text.splitlines():
        key, _, address = line.partition(" ")
        other = wanted.submodule(address)
        if other != address:
            git.run("config", key, other)


def drop_unfinished_submodules(git: Git, *, ours: bool = False) -> None:
    """Remove the submodules whose clone was interrupted, so that git clones them anew; others stay.

    Args:
        git: git in the clone.
        ours: nobody but this program has worked in it; else a submodule that has files stays, too.
    """
    home = git_folder(git.folder)
    for _, path in gitlinks(git):
        place = git.folder / path
        if head_of(place):
            drop_unfinished_submodules(Git(place), ours=ours)
            continue
        if not ours and has_files(place):  # git clones before it writes any: somebody has put them there
            continue
        shutil.rmtree(home / "modules" / _submodule_name(git, path), ignore_errors=True)
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(exist_ok=True)


def _submodule_name(git: Git, path: str) -> str:
    said = git.ask("config", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    for line in said.text.splitlines():
        key, _, found = line.partition(" ")
        if found == path:
            return key.removeprefix("submodule.").removesuffix(".path")
    return path


def verify(place: Path, wanted: Wanted) -> None:
    state = look(place)
    if not state.is_at(wanted.commit) or state.missing:
        what = f"at {state.head[:10]}" if not state.is_at(wanted.commit) else f"without {state.missing[0]}"
        raise ExternalToolError(
            f"{place}: git left {wanted.name} {what}", "run the same command again; remove it if that recurs"
        )
