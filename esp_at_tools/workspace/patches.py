"""Applying esp-at's patches, finding out which are applied, and taking them back.

esp-at's own tool takes a patch that does not fit for one that is not needed. Here the two are told apart:
whether each patch is in is found out on a copy of the files that it touches, from the last patch to the
first, so that one that touches the lines of another does not hide it. Nothing is ever reset: what the user
has changed stays, and where a patch does not fit for it, nothing at all is applied.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import write_file
from esp_at_tools.formats.sdkconfig import Sdkconfig
from esp_at_tools.workspace.git import Git
from esp_at_tools.workspace.patch_diff import TouchedFile, read_diff
from esp_at_tools.workspace.patch_list import Patch
from esp_at_tools.workspace.unchanged import unchanged_on_error

APPLIED = "applied"
INCLUDED = "included"
MISSING = "missing"
CONFLICTING = "conflicting"
NOT_NEEDED = "not needed"
UNDECIDED = "undecided"

_FAILED = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)
_ERROR = re.compile(r"^error: (.+)$", re.MULTILINE)
_DAMAGED = re.compile(
    r"corrupt patch|[Nn]o valid patches|unrecognized input|malformed|patch fragment without"
)
_REFUSED = 1
"""The exit status of ``git apply`` for a patch that does not fit; it has written nothing then."""
_MAX_FILES = 10_000


@dataclass(frozen=True)
class PatchState:
    """What there is to say of a patch.

    Attributes:
        patch: the patch.
        state: ``applied``; ``included`` (in the commit itself, so nothing is to be done or taken back);
            ``missing`` (it is not in, and fits); ``conflicting`` (not in, and does not fit);
            ``not needed`` (an option or variable that it depends on is not there, or it is for another
            chip); ``undecided`` (that takes an sdkconfig, and there is none yet).
        message: of a conflict, which file and hunk.
        hint: what to do about it.
        marked: esp-at's own tool takes it for applied, and would not apply it.
    """

    patch: Patch
    state: str
    message: str = ""
    hint: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Ground:
    """Where patches are applied, and what decides which of them are needed.

    Attributes:
        root: the top of the checkout.
        idf: the ESP-IDF, None for the one in the checkout.
        config: the sdkconfig, None before it is made.
        environment: the variables of the build.
    """

    root: Path
    idf: Path | None = None
    config: Sdkconfig | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def target(self, patch: Patch) -> Path:
        """Return the folder or file to which a patch is applied."""
        if self.idf is not None and patch.path.parts[0] == "esp-idf":
            return self.idf.joinpath(*patch.path.parts[1:])
        return self.root / patch.path

    def marker(self, patch: Patch) -> Path | None:
        """Return where esp-at's own tool leaves a copy of a patch, None where it leaves none."""
        return self.target(patch) / patch.name if patch.marked and patch.is_diff else None


def patch_states(ground: Ground, patches: Iterable[Patch], *, decide: bool = True) -> tuple[PatchState, ...]:
    """Return the state of each patch; nothing is changed.

    Args:
        ground: where.
        patches: the patches in the order in which they are applied.
        decide: tell those that are not needed; without it, every one counts as needed.

    Raises:
        InputError: a patch cannot be read.
        FormatError: one is no patch.
        ExternalToolError: git is not installed.
    """
    listed = list(patches)
    wanted = [patch.needed(ground.config, ground.environment) if decide else True for patch in listed]
    found: dict[int, PatchState] = {}
    with tempfile.TemporaryDirectory(prefix="esp-at-patches-") as scratch:
        bench = _Bench(ground, Path(os.path.realpath(scratch)))
        for index in reversed(range(len(listed))):
            if state := bench.find_applied(listed[index]):
                found[index] = state
        bench.clear()
        for index, patch in enumerate(listed):
            if index in found:
                continue
            if wanted[index]:
                found[index] = bench.find_missing(patch)
            else:
                found[index] = PatchState(patch, UNDECIDED if wanted[index] is None else NOT_NEEDED)
    return tuple(_with_marker(ground, found[index]) for index in range(len(listed)))


def _with_marker(ground: Ground, state: PatchState) -> PatchState:
    marker = ground.marker(state.patch)
    return replace(state, marked=marker is not None and os.path.lexists(marker))


def apply_patches(ground: Ground, patches: Iterable[Patch]) -> tuple[PatchState, ...]:
    """Apply the patches that are needed and missing; all of them, or none.

    Returns:
        The states before it: what was ``missing`` is applied now.

    Raises:
        InputError: a patch does not fit; the message names the file and the hunk. Or a file cannot be
            written. Nothing is changed.
        FormatError: one is no patch.
        ExternalToolError: git failed; every file is as it was.
    """
    states = patch_states(ground, patches)
    refused = [state for state in states if state.state == CONFLICTING]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise InputError(f"{refused[0].message}{more}", refused[0].hint)
    missing = [state.patch for state in states if state.state == MISSING]
    try:
        with unchanged_on_error(path for patch in missing for path in _touched(ground, patch)):
            for patch in missing:
                _put(ground, patch)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{error.filename}: cannot be written: {reason}", "nothing was changed") from error
    return states


def _touched(ground: Ground, patch: Patch) -> list[Path]:
    """Return the files that a patch changes, makes or removes."""
    if not patch.is_diff:
        return [target for _, target in _replacements(ground, patch)]
    place, marker = _Place.of(ground, patch), ground.marker(patch)
    found = [place.base / path for each in place.files for path in each.paths]
    return found if marker is None else [*found, marker]


def _put(ground: Ground, patch: Patch) -> None:
    if not patch.is_diff:
        for source, target in _replacements(ground, patch):
            if not _same(source, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_file(target, source.read_bytes())
                shutil.copymode(source, target)  # as esp-at's own tool does
        return
    place = _Place.of(ground, patch)
    place.git().run("apply", "--whitespace=nowarn", str(patch.source))
    marker = ground.marker(patch)
    if marker is not None:
        _write_marker(marker, patch.source)


def _write_marker(marker: Path, source: Path) -> None:
    """Leave the copy by which esp-at's own tool knows that it has nothing to do."""
    if not marker.is_dir():
        write_file(marker, source.read_bytes())


def undo_patches(ground: Ground, patches: Iterable[Patch]) -> tuple[PatchState, ...]:
    """Take back every patch that is applied, whether or not it is needed, from the last to the first.

    What is in the commit itself stays. A file that was replaced comes back from the repository.

    Returns:
        The states before it: what was ``applied`` is taken back, but for those that come back as
        ``conflicting``, with the reason.

    Raises:
        InputError: a patch cannot be read.
        FormatError: one is no patch.
        ExternalToolError: git failed.
    """
    states = list(patch_states(ground, patches, decide=False))
    for index in reversed(range(len(states))):
        patch = states[index].patch
        if states[index].state == APPLIED:
            states[index] = _take_back(ground, states[index])
        marker = ground.marker(patch)
        if marker is not None and _same(patch.source, marker) and is_out(ground, states[index]):
            marker.unlink()
            states[index] = replace(states[index], marked=False)
    return tuple(states)


def is_out(ground: Ground, state: PatchState) -> bool:
    """Tell whether nothing of a patch is in: of one that conflicts, whether its files are as committed.

    esp-at's own tool leaves its copy of a patch that does not fit, too.

    Raises:
        InputError: the patch cannot be read.
        ExternalToolError: git is not installed.
    """
    if state.state != CONFLICTING:
        return True
    place = _Place.of(ground, state.patch)
    paths = [place.base / path for each in place.files for path in each.paths]
    return all(_committed(path) == (path.read_bytes() if path.is_file() else None) for path in paths)


def _take_back(ground: Ground, state: PatchState) -> PatchState:
    patch = state.patch
    if patch.is_diff:
        git, args = _Place.of(ground, patch).git(), ("apply", "-R", "--whitespace=nowarn", str(patch.source))
        with unchanged_on_error(_touched(ground, patch)):
            said = git.ask(*args)
            if said.status not in (0, _REFUSED):
                raise git.failure(args, said.status, said.err)
        if said.status:
            return replace(_conflict(ground, patch, said.err, reverse=True), marked=state.marked)
        return state
    for source, target in _replacements(ground, patch):
        if _committed(target) is not None:
            Git(target.parent).run("checkout", "HEAD", "--", target.name)
        elif patch.source.is_dir():
            target.unlink()
        else:
            return replace(
                state,
                state=CONFLICTING,
                message=f"{target}: what {source.name} replaced is in no repository",
                hint="put the original back from where the folder came",
            )
    return state


# --- diffs, tried out on copies ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where git applies a patch.

    Attributes:
        folder: where git runs.
        base: the folder to which the paths of the patch are relative.
        files: the files of the patch that are in the folder; git leaves the others out.
        left_out: those others.
        alone: the folder belongs to no repository of its own, and git must not take one around it.
    """

    folder: Path
    base: Path
    files: tuple[TouchedFile, ...]
    left_out: tuple[str, ...]
    alone: bool

    @classmethod
    def of(cls, ground: Ground, patch: Patch) -> _Place:
        folder = ground.target(patch)
        if not patch.source.is_file():
            raise InputError(f"{patch.source}: no such patch", f"{patch.place} lists it")
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder, and {patch.name} is applied there",
                "'esp-at-tool install' clones what a module needs",
            )
        files = read_diff(patch.source)
        folder = Path(os.path.realpath(folder))
        said = Git(folder).ask("rev-parse", "--show-toplevel", "--show-prefix")
        top, prefix = (said.text + "\n").split("\n")[:2] if not said.status else ("", "")
        if not top or (prefix and not _within(files, prefix)):
            return cls(folder, folder, files, (), alone=True)
        if not all(each.by_git for each in files):
            return cls(folder, folder, files, (), alone=False)
        inside = tuple(each for each in files if _within([each], prefix))
        outside = tuple(path for each in files if each not in inside for path in each.paths)
        return cls(folder, Path(top), inside, outside, alone=False)

    def git(self) -> Git:
        """Return git in the folder."""
        return Git(self.folder, {"GIT_CEILING_DIRECTORIES": str(self.folder.parent)} if self.alone else {})


def _within(files: Iterable[TouchedFile], prefix: str) -> bool:
    return any(path.startswith(prefix) for each in files for path in each.paths)


class _Bench:
    """Copies of the files that patches touch, on which they are tried out."""

    def __init__(self, ground: Ground, scratch: Path) -> None:
        self._ground = ground
        self._scratch = scratch
        self._bases: dict[Path, Path] = {}
        self._copied: set[tuple[Path, str]] = set()
        self._round = 0

    def clear(self) -> None:
        """Begin anew with the files as they are."""
        self._bases.clear()
        self._copied.clear()
        self._round += 1

    def find_applied(self, patch: Patch) -> PatchState | None:
        """Return the state of a patch that is in, and take it out of the copies; None if it is not in."""
        if not patch.is_diff:
            pairs = _existing_replacements(self._ground, patch)
            if not pairs or not all(_same(source, target) for source, target in pairs):
                return None
            included = all(_committed(target) == source.read_bytes() for source, target in pairs)
            return PatchState(patch, INCLUDED if included else APPLIED)
        try:
            place = _Place.of(self._ground, patch)
        except FormatError:
            raise
        except InputError:  # where it would be applied is not there: a question only if it is needed
            return None
        if self._apply(place, patch, reverse=True):
            return None
        if not self._in_commit(place, patch):
            return PatchState(patch, APPLIED)
        self._apply(place, patch)  # those that come before it in the list were applied on top of it
        return PatchState(patch, INCLUDED)

    def find_missing(self, patch: Patch) -> PatchState:
        """Return the state of a patch that is not in, and put it into the copies if it fits."""
        try:
            if not patch.is_diff:
                return _replacement_state(self._ground, patch)
            place = _Place.of(self._ground, patch)
        except FormatError:
            raise
        except InputError as error:
            return PatchState(patch, CONFLICTING, error.message, error.hint)
        said = self._apply(place, patch)
        if said and patch.by_chance:
            return PatchState(patch, NOT_NEEDED)
        return _conflict(self._ground, patch, said) if said else PatchState(patch, MISSING)

    def _apply(self, place: _Place, patch: Patch, *, reverse: bool = False) -> str:
        """Apply a patch to the copies and return what git said against it, ``""`` for nothing."""
        folder = self._copies(place)
        return _try(folder, self._scratch, place, patch, reverse=reverse)

    def _copies(self, place: _Place) -> Path:
        folder = self._bases.setdefault(place.base, self._scratch / f"{self._round}-{len(self._bases)}")
        folder.mkdir(exist_ok=True)
        for each in place.files:
            for path in each.paths:
                if (place.base, path) in self._copied:
                    continue
                self._copied.add((place.base, path))
                source, copy = place.base / path, folder / path
                if source.is_file() or source.is_symlink():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, copy, follow_symlinks=False)
        return folder

    def _in_commit(self, place: _Place, patch: Patch) -> bool:
        """Tell whether a patch is in the files of the commit already."""
        if place.alone:
            return False
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        for each in place.files:
            for path in each.paths:
                data = _committed(place.base / path)
                if data is not None:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(data)
        return not _try(folder, self._scratch, place, patch, reverse=True)


def _try(folder: Path, scratch: Path, place: _Place, patch: Patch, *, reverse: bool) -> str:
    left_out = [f"--exclude={path}" for path in place.left_out]
    direction = ["-R"] if reverse else []
    git = Git(folder, {"GIT_CEILING_DIRECTORIES": str(scratch)})
    said = git.ask("apply", "--whitespace=nowarn", *direction, *left_out, str(patch.source))
    if said.status and _DAMAGED.search(said.err):
        raise FormatError(
            f"{patch.source}: is damaged: {said.err.strip()[-200:]}", "make it with 'git diff > NAME.patch'"
        )
    return (said.err or "it failed") if said.status else ""


def _conflict(ground: Ground, patch: Patch, said: str, *, reverse: bool = False) -> PatchState:
    """Return the state of a patch that does not fit, with the file and hunk that git stumbled over."""
    place = _Place.of(ground, patch)
    match = _FAILED.search(said)
    if match is None:
        error = _ERROR.search(said)
        what = error[1] if error else said.strip()[:200]
    else:
        what = _hunk(place, match[1], int(match[2]), reverse=reverse)
    name = match[1] if match else ""
    verb = "cannot be taken out of" if reverse else "does not fit"
    look = f"git -C {place.base} diff {name}".rstrip()
    hint = (
        f"'{look}' shows what was changed there by hand, 'esp-at-tool doctor' whether its commit is the right"
        f" one; if nothing was, the patch is for another ESP-IDF: change its entry in {patch.place}"
    )
    return PatchState(patch, CONFLICTING, f"{patch.source}: {verb} {place.folder}: {what}", hint)


def _hunk(place: _Place, name: str, line: int, *, reverse: bool) -> str:
    for each in place.files:
        if name not in each.paths:
            continue
        for hunk in each.hunks:
            if (hunk.new_line if reverse else hunk.old_line) == line:
                return f"{name}: hunk {hunk.number} of {len(each.hunks)} at line {line}: {hunk.header}"
    return f"{name}: the hunk at line {line}"


# --- files that take the place of others ------------------------------------------------------------------


def _replacements(ground: Ground, patch: Patch) -> list[tuple[Path, Path]]:
    """Return the files of a replacement, each with the file that it replaces.

    Raises:
        InputError: the source, or the place where it goes, is not there.
    """
    target = ground.target(patch)
    if patch.source.is_dir():
        sources = sorted(path for path in patch.source.rglob("*") if path.is_file())
        if len(sources) > _MAX_FILES:
            raise InputError(f"{patch.source}: holds {len(sources)} files", "leave those that are needed")
        return [(path, target / path.relative_to(patch.source)) for path in sources]
    if not patch.source.is_file():
        raise InputError(f"{patch.source}: no such file", f"{patch.place} lists it")
    if not target.exists():
        raise InputError(
            f"{target}: no such file or folder, and {patch.name} goes there",
            "'esp-at-tool install' clones what a module needs",
        )
    return [(patch.source, target / patch.name if target.is_dir() else target)]


def _existing_replacements(ground: Ground, patch: Patch) -> Sequence[tuple[Path, Path]]:
    try:
        return _replacements(ground, patch)
    except InputError:
        return ()


def _replacement_state(ground: Ground, patch: Patch) -> PatchState:
    for source, target in _replacements(ground, patch):
        if not target.exists() or _same(source, target):
            continue
        original = _committed(target)
        if original is not None and target.read_bytes() != original:
            return PatchState(
                patch,
                CONFLICTING,
                f"{target}: is neither the file of its repository nor {source}, which is to replace it",
                f"keep a copy of it, then: git -C {target.parent} checkout -- {target.name}",
            )
    return PatchState(patch, MISSING)


def _same(one: Path, other: Path) -> bool:
    try:
        return other.is_file() and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _committed(path: Path) -> bytes | None:
    """Return a file as the commit of its repository has it, None where there is none."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    said = Git(folder).ask("show", f"HEAD:./{path.relative_to(folder).as_posix()}")
    return said.out if not said.status else None
