"""A process of its own that runs esp-idf-kconfig: ``python -m esp_at_tools.kconfig.worker``.

That library takes its input from the environment, prints, and ends the process on some errors; none of
this may happen to a program that uses this package. The process gets one JSON document on stdin and gives
one on stdout; the environment is that of Kconfig. A tree is parsed once for any number of jobs.

Request: ``{"kconfig": path, "renames": [path], "jobs": [[[name, text], …]], "wanted": text or null}``: for
each job the texts of its defaults, with the names that messages give them. With ``wanted``, the text of a
resolved sdkconfig, the smallest overlay is looked for that leads from the first job's defaults there.
Reply: ``{"jobs": [{"text", "unknown": [[file, option, nearest]], "messages": [text]}], "overlay":
[[option, value]]}`` or ``{"error": text}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from esp_at_tools.formats.sdkconfig import Sdkconfig, statement

MAX_UNKNOWN = 50
"""Most options of a job for which the nearest known name is looked up."""

MAX_ROUNDS = 8
"""How often the overlay is completed by what depends on what is already in it."""

Defaults = list[tuple[str, str]]


class Tree:
    """A Kconfig tree that is parsed."""

    def __init__(self, request: dict[str, Any], folder: Path, messages: list[str]) -> None:
        """Parse it.

        Args:
            request: see above.
            folder: for temporary files.
            messages: to which the library's warnings are added.

        Raises:
            Exception: whatever the library raises.
        """
        from esp_kconfiglib.core import Kconfig

        _listen(messages)
        self._kconfig = Kconfig(request["kconfig"])
        _listen(messages)  # Kconfig puts another listener in the place of any before it
        self._kconfig.load_rename_files(request["renames"])
        self._source, self._result = folder / "defaults", folder / "sdkconfig"
        self._messages = messages
        self._near: dict[str, str] = {}

    def resolve(self, defaults: Defaults) -> dict[str, Any]:
        """Return the answer to one job, whatever the jobs before it were."""
        text, missing, said = self._resolve(defaults)
        unknown = [
            (name, option, self._nearest(option) if number < MAX_UNKNOWN else "")
            for number, (name, option) in enumerate(missing)
        ]
        return {"text": text, "unknown": unknown, "messages": list(dict.fromkeys(said))}

    def _resolve(self, defaults: Defaults) -> tuple[str, list[tuple[str, str]], list[str]]:
        """Return the sdkconfig, which file names which options that are unknown, and the messages."""
        from esp_kconfiglib.constants import build_idf_sdkconfig_header

        self._load("", replace=True)
        missing: dict[tuple[str, str], None] = {}
        said: list[str] = []
        for name, text in defaults:
            self._messages.clear()
            before = len(self._kconfig.missing_syms)
            self._load(_without_empty_values(text), replace=False)
            missing |= dict.fromkeys((name, option) for option, _ in self._kconfig.missing_syms[before:])
            said += (message.replace(str(self._source), name) for message in self._messages)
        self._messages.clear()
        self._result.unlink(missing_ok=True)
        header = build_idf_sdkconfig_header()
        self._kconfig.write_config(str(self._result), header=header, save_old=False, write_deprecated=True)
        return self._result.read_text(encoding="utf-8"), list(missing), [*said, *self._messages]

    def overlay(self, defaults: Defaults, wanted: str) -> list[tuple[str, str]]:
        """Return the smallest set of options that leads from some defaults to the wanted sdkconfig.

        Only what a user can set is in it: options with a prompt.
        """
        goal = Sdkconfig.from_text(wanted).options
        found: dict[str, str] = {}
        for _ in range(MAX_ROUNDS):
            more = self._missing(self._options(defaults, found), goal)
            if not more.keys() - found.keys():
                break
            found |= more
        reached = self._options(defaults, found)
        return sorted(self._without_needless(list(found.items()), [], defaults, reached))

    def _without_needless(
        self,
        block: list[tuple[str, str]],
        rest: list[tuple[str, str]],
        defaults: Defaults,
        reached: dict[str, str],
    ) -> list[tuple[str, str]]:
        """Return what of ``block`` is needed beside ``rest`` to reach the same options."""
        if not block or self._options(defaults, dict(rest)) == reached:
            return []
        if len(block) == 1:
            return block
        half = len(block) // 2
        first = self._without_needless(block[:half], rest + block[half:], defaults, reached)
        return first + self._without_needless(block[half:], rest + first, defaults, reached)

    def _missing(self, now: dict[str, str], goal: Any) -> dict[str, str]:
        return {
            name: value for name, value in goal.items() if now.get(name) != value and self._is_settable(name)
        }

    def _is_settable(self, name: str) -> bool:
        symbol = self._kconfig.syms.get(name)
        return symbol is not None and any(node.prompt for node in symbol.nodes)

    def _options(self, defaults: Defaults, overlay: dict[str, str]) -> dict[str, str]:
        text = "".join(f"{statement(name, value)}\n" for name, value in overlay.items())
        return dict(Sdkconfig.from_text(self._resolve([*defaults, ("overlay", text)])[0]).options)

    def _load(self, text: str, *, replace: bool) -> None:
        self._source.write_text(text, encoding="utf-8")
        self._kconfig.load_config(str(self._source), replace=replace)

    def _nearest(self, option: str) -> str:
        """Return the known name that is nearest to that of an unknown option, ``""`` if none is near."""
        import difflib

        if option not in self._near:
            names = (symbol.name for symbol in self._kconfig.unique_defined_syms)
            self._near[option] = next(iter(difflib.get_close_matches(option, names, n=1, cutoff=0.8)), "")
        return self._near[option]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do all that a request asks; what the library raises, because a file is wrong, becomes ``error``."""
    from esp_kconfiglib.core import KconfigError
    from esp_kconfiglib.kconfig_grammar import KconfigParseError

    messages: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            tree = Tree(request, Path(folder), messages)
            reply: dict[str, Any] = {"jobs": [tree.resolve(defaults) for defaults in request["jobs"]]}
            if request["wanted"] is not None:
                reply["overlay"] = tree.overlay(request["jobs"][0], request["wanted"])
    except (KconfigError, KconfigParseError, OSError, RuntimeError, ValueError) as error:
        return {"error": str(error) or type(error).__name__}
    except SystemExit:
        return {"error": messages[-1] if messages else "esp-idf-kconfig gave up"}
    return reply


def _without_empty_values(text: str) -> str:
    """Return defaults as kconfgen reads them: ``CONFIG_X=`` is ``CONFIG_X=n``."""
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}n\n" if line.endswith("=") else f"{line}\n" for line in lines)


def _listen(messages: list[str]) -> None:
    """Let the library's warnings and notes be added to ``messages`` from now on, instead of printed."""
    from esp_pylib.logger import EspLog, EspLogBase
    from rich.text import Text

    def keep(*args: Any, **_options: Any) -> None:
        messages.append(Text.from_markup(" ".join(str(arg) for arg in args[1:])).plain)

    def ignore(*_args: Any, **_options: Any) -> None:
        pass

    methods = dict.fromkeys(EspLogBase.__abstractmethods__, ignore) | dict.fromkeys(
        ("err", "warn", "note"), keep
    )
    listener: Any = type("Listener", (EspLogBase,), methods)
    EspLog.set_logger(listener())


def main() -> None:
    """Answer the request on stdin; nothing but the answer goes to stdout."""
    answer_to = sys.stdout
    sys.setrecursionlimit(10_000)
    with contextlib.redirect_stdout(io.StringIO()):
        reply = answer(json.load(sys.stdin))
    json.dump(reply, answer_to)


if __name__ == "__main__":
    main()
