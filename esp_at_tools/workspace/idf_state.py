"""A Git repository that a build needs: what it shall be, and what stands in its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.workspace.git import Git

_SHOWN = 5


@dataclass(frozen=True)
class Follow:
    """Who hears what is going on.

    Attributes:
        step: is told what begins now.
        line: gets each line that a program prints, as it comes.
        warn: is told what the user should know even if nothing else is shown.
    """

    step: Callable[[str], None]
    line: Callable[[str], None]
    warn: Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """A repository as it shall be.

    Attributes:
        name: what people call it: ``ESP-IDF``.
        place: where it shall stand.
        repository: from where it is cloned.
        reference: branch or tag that has the commit.
        commit: the commit, 7 to 40 hexadecimal digits.
        borrowed: a clone on this machine whose objects are used, None for none.
        whole: clone its whole history, as build.py does.
        submodule: gives the address of a submodule another form.
    """

    name: str
    place: Path
    repository: str
    reference: str
    commit: str
    borrowed: Path | None = None
    whole: bool = False
    submodule: Callable[[str], str] | None = None

    @property
    def partial(self) -> Path:
        """The folder in which it is made."""
        return self.place.with_name(f".{self.place.name}.partial")

    @property
    def is_local(self) -> bool:
        """Whether it comes from this machine."""
        return self.repository.startswith("file:") or Path(self.repository).is_absolute()


@dataclass(frozen=True)
class State:
    """What stands in the place of a repository.

    Attributes:
        exists: anything but an empty folder.
        is_link: it is a link to a folder elsewhere.
        is_repository: it is the top of a Git repository.
        head: the commit that is checked out, ``""`` for none.
        missing: submodules that are not there, or at another commit.
    """

    exists: bool
    is_link: bool = False
    is_repository: bool = False
    head: str = ""
    missing: tuple[str, ...] = ()

    def is_at(self, commit: str) -> bool:
        """Whether that commit is checked out."""
        return bool(self.head) and self.head.startswith(commit)


def look(place: Path) -> State:
    """Return what stands in the place of a repository.

    Raises:
        ExternalToolError: git is not installed.
    """
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return State(exists=False, is_link=place.is_symlink())
    git = Git(place)
    if not git.is_top():
        return State(exists=True, is_link=place.is_symlink())
    head = head_of(place)
    missing = tuple(_missing(git)) if head else ()
    return State(exists=True, is_link=place.is_symlink(), is_repository=True, head=head, missing=missing)


def head_of(place: Path) -> str:
    """Return the commit that is checked out in a repository, ``""`` where there is none."""
    git = Git(place)
    if not git.is_top():
        return ""
    return git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}").text.strip()


def git_folder(place: Path) -> Path:
    """Return where a repository is; in a submodule or a work tree of another clone, ``.git`` is a file."""
    return place / Git(place).run("rev-parse", "--git-dir")


def gitlinks(git: Git) -> Iterator[tuple[str, str]]:
    """Yield commit and path of each submodule of a repository."""
    if not (git.folder / ".gitmodules").is_file():
        return
    for line in git.run("ls-files", "--stage", "-z").split("\0"):
        about, _, path = line.partition("\t")
        mode, commit = (*about.split(), "", "")[:2]
        if mode == "160000":
            yield commit, path


def _missing(git: Git, prefix: str = "") -> Iterator[str]:
    """Yield the submodules that are not there or at another commit, those of submodules too."""
    for commit, path in gitlinks(git):
        place = git.folder / path
        if head_of(place) != commit:
            yield f"{prefix}{path}"
        else:
            yield from _missing(Git(place), f"{prefix}{path}/")


def modified(place: Path, *, submodules: bool = True) -> tuple[str, ...]:
    """Return the files of a clone, and unless told otherwise its submodules, that somebody has changed."""
    ignored = () if submodules else ("--ignore-submodules=all",)
    lines = Git(place).run("status", "--porcelain=v1", "--untracked-files=no", *ignored).splitlines()
    return tuple(line[3:] for line in lines)


def explain_mismatch(wanted: Wanted, state: State) -> str:
    """Return the sentence that says which commit is there, and which one the module is built with."""
    return (
        f"{wanted.place}: is {wanted.name} at commit {state.head[:10] or 'none'}, and the module is built"
        f" with {wanted.reference} at commit {wanted.commit[:10]}"
    )


def lost_link(place: Path) -> str:
    """Return the sentence about a link that leads to nothing, ``""`` for anything else."""
    if not place.is_symlink() or place.exists():
        return ""
    return f"{place}: is a link to {place.readlink()}, where there is nothing"


def few(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def absent_submodules(wanted: Wanted, state: State) -> list[str]:
    """Return the submodules of which there is no file."""
    return [path for path in state.missing if not has_files(wanted.place / path)]


def has_files(place: Path) -> bool:
    """Tell whether there is anything in a folder but what makes it a repository."""
    return place.is_dir() and any(each.name != ".git" for each in place.glob("*"))


def is_empty_clone(place: Path) -> bool:
    """Tell whether a clone was interrupted before it had a commit."""
    return [each.name for each in place.iterdir()] == [".git"]
