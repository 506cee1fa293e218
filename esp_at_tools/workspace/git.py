"""Running git: with lists of arguments, never through a shell, and without questions to a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from esp_at_tools.errors import ExternalToolError

_MAX_SAID = 2000
"""Characters of git's messages that an error repeats; git puts the reason last."""

_CREDENTIALS = re.compile(r"(https?://)[^/@\s'\"]+@", re.IGNORECASE)

_LOCAL = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_IMPLICIT_WORK_TREE",
)  # fmt: skip
"""What git tells its hooks of their repository, which must not be taken for another."""


@dataclass(frozen=True)
class Said:
    """What a run of git came to.

    Attributes:
        status: its exit status, 0 for success.
        out: its output.
        err: its messages, in English.
    """

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its output as text; bytes that are not UTF-8 as surrogates, as Python has them in paths."""
        return self.out.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Git:
    """git in a folder.

    Attributes:
        folder: where it runs.
        variables: environment variables that it gets beside those of this process.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *args: str) -> str:
        """Run git and return its output, without the line ends at its end.

        Raises:
            ExternalToolError: git is not installed, or failed; the message has what it said.
        """
        said = self.ask(*args)
        if said.status:
            raise self.failure(args, said.status, said.err)
        return said.text.rstrip("\r\n")

    def ask(self, *args: str, stdin: bytes | None = None) -> Said:
        """Run git and return what it came to, whatever that is.

        Args:
            args: its arguments.
            stdin: what it reads; nothing by default.

        Raises:
            ExternalToolError: git is not installed, or cannot run in that folder.
        """
        try:
            done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
                self._command(args),
                cwd=self.folder,
                env=self._environment(),
                input=stdin or b"",
                capture_output=True,
                check=False,
            )
        except (OSError, ValueError) as error:
            raise self._cannot_run(error) from error
        return Said(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def follow(self, *args: str, line: Callable[[str], None]) -> None:
        """Run git and give each line of its output and messages to ``line`` as it comes.

        A line that git writes over another (its progress) counts as one too. When ``line`` raises
        anything, or the user interrupts, git is ended.

        Raises:
            ExternalToolError: git is not installed, or failed; the message has the last that it said.
        """
        try:
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                self._command(args),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except (OSError, ValueError) as error:
            raise self._cannot_run(error) from error
        last: list[str] = []
        with process, contextlib.ExitStack() as on_error:
            on_error.callback(process.terminate)
            for text in map(without_credentials, _lines(process.stdout)):
                last = [*last[-20:], text]
                line(text)
            on_error.pop_all()
        if process.returncode:
            raise self.failure(args, process.returncode, "\n".join(last))

    def failure(self, args: tuple[str, ...], status: int, said: str) -> ExternalToolError:
        """Return the error for a run that failed."""
        text = without_credentials(said.strip())[-_MAX_SAID:] or f"exit status {status}"
        command = without_credentials(" ".join(["git", *args]))[:200]
        return ExternalToolError(f"{command}, in {self.folder}: {text}", _hint(text))

    # --- what is asked of it again and again ------------------------------------------------------------

    def is_top(self) -> bool:
        """Tell whether the folder is the top of a repository, not a folder in another one.

        Raises:
            ExternalToolError: git is not installed.
        """
        if not self.folder.is_dir():
            return False
        said = self.ask("rev-parse", "--show-toplevel")
        top = said.text.rstrip("\r\n")
        return not said.status and bool(top) and os.path.realpath(top) == os.path.realpath(self.folder)

    def head(self) -> str:
        """Return the commit that is checked out, 40 hexadecimal digits.

        Raises:
            ExternalToolError: the folder is no repository, or has no commit.
        """
        return self.run("rev-parse", "--verify", "HEAD^{commit}")

    def has_commit(self, commit: str) -> bool:
        """Tell whether a commit is there."""
        return not self.ask("cat-file", "-e", f"{commit}^{{commit}}").status

    def origin(self) -> str:
        """Return the address of the first remote as ``git remote -v`` lists it, ``""`` without one."""
        said = self.ask("remote", "-v")
        words = said.text.split() if not said.status else []
        return words[1] if len(words) > 1 else ""

    # --- running ------------------------------------------------------------------------------------------

    def _command(self, args: tuple[str, ...]) -> list[str]:
        return ["git", "-c", "advice.detachedHead=false", "-c", "core.quotePath=false", *args]

    def _environment(self) -> dict[str, str]:
        found = {key: value for key, value in os.environ.items() if key not in _LOCAL}
        found.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        return {**found, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": "", **self.variables}

    def _cannot_run(self, error: OSError | ValueError) -> ExternalToolError:
        if isinstance(error, FileNotFoundError) and self.folder.is_dir():
            return ExternalToolError("git is not installed", "'esp-at-tool doctor' says how to install it")
        reason = getattr(error, "strerror", None) or str(error)
        return ExternalToolError(f"git cannot run in {self.folder}: {reason}", "check the folder")


def without_credentials(text: str) -> str:
    """Return a text in which the addresses have no user name, password or token."""
    return _CREDENTIALS.sub(r"\1***@", text)


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    """Yield what is written, cut at line feeds and carriage returns, as soon as it is there."""
    if stream is None:
        return
    pending = b""
    while chunk := os.read(stream.fileno(), 8192):
        *whole, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (each.decode("utf-8", "replace") for each in whole if each)
    if pending:
        yield pending.decode("utf-8", "replace")


def _hint(said: str) -> str:
    """Return what to do about a message of git."""
    return next((hint for sign, hint in _HINTS.items() if sign in said), "")


_HINTS = {
    "dubious ownership": "the folder belongs to another user: git config --global --add safe.directory DIR",
    "Could not resolve host": "there is no way to that host: check the network, or give a mirror",
    "terminal prompts disabled": "it asks for a password, which this program never types: check the address",
    "No space left": "make room on that disk, and run the same command again",
    "early EOF": "the connection broke off: run the same command again",
    "RPC failed": "the connection broke off: run the same command again",
}
"""Part of a message → what to do about it."""
