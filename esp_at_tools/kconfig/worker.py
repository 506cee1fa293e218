"""A process of its own that runs esp-idf-kconfig: ``python -m esp_at_tools.kconfig.worker``.

That library takes its input from the environment, prints, and ends the process on some errors; none of
this may happen to a program that uses this package. The process gets one JSON document on stdin and gives
one on stdout; the environment is that of Kconfig. A tree is parsed once for any number of jobs.

Request: ``{"kconfig": path, "renames": [path], "jobs": [[[name, text], …]]}``: for each job
the texts of its defaults, with the names that messages give them.
Reply: ``{"jobs": [{"text", "unknown": [[file, option, nearest]], "messages": [text]}]}`` or ``{"error"}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_UNKNOWN = 50
"""Most options for which the nearest known name is looked up."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do all jobs of a request; what the library raises or prints while it parses becomes ``error``."""
    from esp_kconfiglib.core import Kconfig, KconfigError
    from esp_kconfiglib.kconfig_grammar import KconfigParseError

    messages = _listen()
    try:
        kconfig = Kconfig(request["kconfig"])
        kconfig.load_rename_files(request["renames"])
    except (KconfigError, KconfigParseError, OSError, RuntimeError, ValueError, RecursionError) as error:
        return {"error": str(error) or type(error).__name__}
    except SystemExit:
        return {"error": messages[-1] if messages else "esp-idf-kconfig gave up"}
    jobs = []
    with tempfile.TemporaryDirectory() as folder:
        for defaults in request["jobs"]:
            messages.clear()
            jobs.append(_job(kconfig, defaults, Path(folder), messages))
    return {"jobs": jobs}


def _job(kconfig: Any, defaults: list[tuple[str, str]], folder: Path, messages: list[str]) -> dict[str, Any]:
    from esp_kconfiglib.constants import build_idf_sdkconfig_header

    source, result = folder / "defaults", folder / "sdkconfig"
    source.write_text("", encoding="utf-8")
    kconfig.load_config(str(source), replace=True)  # forget the job before this one
    unknown: list[tuple[str, str, str]] = []
    said: list[str] = []
    for name, text in defaults:
        source.write_text(_without_empty_values(text), encoding="utf-8")
        before = len(kconfig.missing_syms)
        kconfig.load_config(str(source), replace=False)
        missing = [option for option, _ in kconfig.missing_syms[before:]]
        unknown += ((name, option, nearest) for option, nearest in _nearest(missing, kconfig))
        said += (message.replace(str(source), name) for message in messages)
        messages.clear()
    result.unlink(missing_ok=True)
    kconfig.write_config(str(result), header=build_idf_sdkconfig_header(), save_old=False, write_deprecated=True)
    said += messages
    return {
        "text": result.read_text(encoding="utf-8"),
        "unknown": unknown,
        "messages": list(dict.fromkeys(said)),
    }


def _without_empty_values(text: str) -> str:
    """Return defaults as kconfgen reads them: ``CONFIG_X=`` is ``CONFIG_X=n``."""
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}n\n" if line.endswith("=") else f"{line}\n" for line in lines)


def _nearest(missing: Iterable[str], kconfig: Any) -> list[tuple[str, str]]:
    import difflib

    names = [symbol.name for symbol in kconfig.unique_defined_syms]
    found = []
    for number, option in enumerate(dict.fromkeys(missing)):
        near = difflib.get_close_matches(option, names, n=1, cutoff=0.8) if number < MAX_UNKNOWN else []
        found.append((option, near[0] if near else ""))
    return found


def _listen() -> list[str]:
    """Return a list to which the library's warnings and notes are added from now on."""
    from esp_pylib.logger import EspLog, EspLogBase
    from rich.text import Text

    messages: list[str] = []

    def keep(*args: Any, **_options: Any) -> None:
        messages.append(Text.from_markup(" ".join(str(arg) for arg in args)).plain)

    def ignore(*_args: Any, **_options: Any) -> None:
        pass

    methods = dict.fromkeys(EspLogBase.__abstractmethods__, ignore) | {"err": keep, "warn": keep, "note": keep}
    listener: Any = type("Listener", (EspLogBase,), methods)
    EspLog.set_logger(listener())
    return messages


def main() -> None:
    """Answer the request on stdin; nothing but the answer goes to stdout."""
    answer_to, printed = sys.stdout, io.StringIO()
    sys.setrecursionlimit(10_000)
    with contextlib.redirect_stdout(printed):
        reply = answer(json.load(sys.stdin))
    json.dump(reply, answer_to)


if __name__ == "__main__":
    main()
