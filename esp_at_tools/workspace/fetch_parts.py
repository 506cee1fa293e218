"""Fetching a commit in parts, where a connection breaks off before all of it is there.

git can go on with nothing of a fetch that broke off; the next one begins anew. A partial clone can be fetched
piece by piece: the commit and its folders first, then its files, some hundred at a time. What has come stays.

Source: gitglossary and the technical documentation "partial clone" of git 2.39.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from esp_at_tools.workspace.git import Git

_REMOTE = "origin"
_SETTINGS = (f"remote.{_REMOTE}.promisor", f"remote.{_REMOTE}.partialclonefilter", "extensions.partialclone")
"""What makes a clone a partial one: git fetches what it lacks as soon as that is asked for."""
_MARK = "esp-at-tool-parts"
"""A file in the repository while the files of a commit are fetched."""
_PART = 400
"""Files at a time: their names fit the command line of every system."""


def drop_broken_fetch(git: Git) -> None:
    """Remove what a fetch has left that broke off; nobody else may be fetching into the clone."""
    for path in _packs(git).glob("tmp_*"):
        path.unlink(missing_ok=True)
    if not _mark(git).is_file():  # else git would fetch a whole history when it is asked for a commit
        _forget(git)


def begin_parts(git: Git, commit: str, line: Callable[[str], None]) -> None:
    """Fetch a commit and its folders without its files; a server that cannot do that sends these, too.

    Raises:
        ExternalToolError: git failed.
    """
    drop_broken_fetch(git)
    with contextlib.ExitStack() as on_error:
        on_error.callback(drop_broken_fetch, git)
        git.follow(
            "fetch", "--progress", "--depth=1", "--no-tags", "--filter=blob:none", _REMOTE, commit, line=line
        )
        _mark(git).touch()
        on_error.pop_all()


def finish_parts(git: Git, commit: str, line: Callable[[str], None]) -> None:
    """Fetch the files of a commit that are not there yet, and make the clone one like any other.

    Nothing is done where :func:`begin_parts` has not begun.

    Raises:
        ExternalToolError: git failed; the same call goes on with what is missing then.
    """
    if not _mark(git).is_file():
        return
    listed = git.run("rev-list", "--objects", "--missing=print", "--no-walk", commit)
    missing = [name[1:] for name in listed.splitlines() if name.startswith("?")]
    for start in range(0, len(missing), _PART):
        line(f"files {start + 1} to {min(start + _PART, len(missing))} of {len(missing)}")
        git.run(
            "-c", "fetch.negotiationAlgorithm=noop",  # it has the commit, and must not say so
            "fetch", "--quiet", "--no-tags", "--filter=blob:none", _REMOTE, *missing[start : start + _PART],
        )  # fmt: skip
    _forget(git)
    for mark in _packs(git).glob("*.promisor"):
        mark.unlink()
    _mark(git).unlink()


def _forget(git: Git) -> None:
    """Make it no partial clone."""
    for setting in _SETTINGS:
        git.ask("config", "--unset-all", setting)


def _mark(git: Git) -> Path:
    return git.folder / ".git" / _MARK


def _packs(git: Git) -> Path:
    return git.folder / ".git/objects/pack"
