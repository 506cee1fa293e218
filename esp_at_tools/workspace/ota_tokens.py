"""The tokens by which a firmware may update itself from Espressif's server, taken from the environment.

esp-at keeps one token a module in ``components/at/private_include/at_ota_token.h``, as macros whose default
is the option ``CONFIG_AT_OTA_TOKEN_KEY``; ``components/at/src/at_default_config.c`` tells which macros a
module has. esp-at's own pipelines overwrite that header, with empty tokens for the secrets that are not
there. Here the macros of the module alone are set, behind what the header says, while a build runs. Then
the header has its first bytes again. The sdkconfig is left as it is, because it is kept with the artefacts.

A build that is killed leaves the tokens in the header, where ``git status`` shows it; the next build, and
:func:`remove_tokens`, take them out.

Source: both files, ``.github/workflows`` and ``.gitlab/ci`` of esp-at v2.4.0.0 to v5.0.1.0.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.files import check_output, read_file, replace_files, stage_file, temporary_beside

HEADER = Path("components", "at", "private_include", "at_ota_token.h")
TABLE = Path("components", "at", "src", "at_default_config.c")

TOKEN = "AT_OTA_TOKEN_"  # noqa: S105 - how a variable begins, no secret
SSL_TOKEN = "AT_OTA_SSL_TOKEN_"  # noqa: S105 - how a variable begins, no secret
_MACRO = "CONFIG_ESP_"
_ALIAS = re.compile(r"ESP32\w{1,60}_TOKEN", re.ASCII)
"""esp-at's workflows call some secrets ``ESP32C2_2MB_TOKEN``."""
_KEY = "KEY"
"""``AT_OTA_TOKEN_KEY`` is for a module that has no variable of its own, as the option of that name is."""
KEY_VARIABLES = (f"{TOKEN}{_KEY}", f"{SSL_TOKEN}{_KEY}")
_DEFAULT = "DEFAULT"
"""The name that esp-at's macros have for that option."""

_MARK = b"\n/* The OTA tokens of one build: esp-at-tool takes out all that follows when the build ends. */\n"
_MAX_SIZE = 1 << 20
_VALUE = re.compile(r"[A-Za-z0-9._~+/=:-]{1,100}", re.ASCII)
_TARGET = re.compile(r"\s*#\s*(?:el)?if\s+defined\s*\(?\s*CONFIG_IDF_TARGET_([A-Z0-9]{1,20})\s*\)?", re.ASCII)
_END = re.compile(r"\s*#\s*endif\b")
_ROW = re.compile(r'\s*\{\s*"([^"]{1,64})"\s*,\s*(\w{1,100})\s*,\s*(\w{1,100})\s*\}', re.ASCII)
_DEFINE = re.compile(rf"\s*#\s*define\s+{_MACRO}({TOKEN}|{SSL_TOKEN})(\w{{1,60}})\b", re.ASCII)


@dataclass(frozen=True)
class OtaTokens:
    """What the environment has for one module; its ``repr`` shows no token.

    Attributes:
        macros: macro of the header → token.
        variables: the environment variables from which they come.
        unused: variables that hold the token of another module.
        warnings: variables that no module has, with the nearest that one has.
    """

    macros: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def hide(self, text: str) -> str:
        """Return a text in which no token can be read: a compiler quotes the lines that it complains of."""
        for token in self.macros.values():
            text = text.replace(token, "***")
        return text


@dataclass(frozen=True)
class _Variable:
    """An environment variable, the macro that it sets, and the name of the token."""

    name: str
    macro: str
    token: str


def find_tokens(environment: Mapping[str, str], root: Path, platform: str, module: str) -> OtaTokens:
    """Return the tokens that the environment has for a module of a checkout.

    The token ``ESP32C2_2MB`` comes from ``AT_OTA_TOKEN_ESP32C2_2MB``, or from ``ESP32C2_2MB_TOKEN`` as
    esp-at's workflows call it; for TLS from ``AT_OTA_SSL_TOKEN_ESP32C2_2MB``, else it is the same one. A
    module without any of these takes ``AT_OTA_TOKEN_KEY`` and ``AT_OTA_SSL_TOKEN_KEY``. An empty variable
    counts as none: that is how GitHub passes a secret that is not there.

    Args:
        environment: ``os.environ``, or what stands for it.
        root: the top of the checkout.
        platform: ``PLATFORM_ESP32C3``, with or without its first word.
        module: ``MINI-1``.

    Raises:
        InputError: a token has characters that no token has, two variables disagree, or the checkout has
            not the files in which a token is kept.
    """
    given = {name: text.strip() for name, text in environment.items() if text.strip()}
    plain = any(name.startswith((TOKEN, SSL_TOKEN)) for name in given)
    alias = any(_ALIAS.fullmatch(name) for name in given)
    if not plain and not (alias and (root / TABLE).is_file() and (root / HEADER).is_file()):
        return OtaTokens()
    table = _read_table(root)
    known = _known_names(root, table)
    own = table.get((_target(platform), module.casefold()), ())
    found: dict[str, str] = {}
    used: list[str] = []
    for macro, variables in _by_macro(own).items():
        present = [variable for variable in variables if variable.name in given]
        if not present:
            continue
        first = [variable for variable in present if variable.token == present[0].token]
        if len({_token(variable.name, given) for variable in first}) > 1:
            names = " and ".join(variable.name for variable in first)
            raise InputError(f"{names} hold different tokens", "give one of them")
        found[macro] = _token(first[0].name, given)
        used += [variable.name for variable in first]
    others = [name for name in sorted(given) if name.startswith((TOKEN, SSL_TOKEN)) and name not in used]
    unknown = [name for name in others if _name_of(name) not in {*known, _KEY}]
    return OtaTokens(
        found,
        tuple(dict.fromkeys(used)),
        tuple(name for name in others if name not in unknown),
        tuple(_unknown(name, known) for name in unknown),
    )


def variables_of(root: Path, platform: str, module: str) -> tuple[str, ...]:
    """Return the environment variables that can hold the tokens of a module; none where it has no token.

    Raises:
        InputError: the checkout has not the files in which a token is kept.
    """
    rows = _read_table(root).get((_target(platform), module.casefold()), ())
    names = dict.fromkeys(name for _, name in rows)
    return tuple(f"{prefix}{name}" for name in names if name != _DEFAULT for prefix in (TOKEN, SSL_TOKEN))


def alias_of(variable: str) -> str:
    """Return the name that esp-at's workflows have for a variable: ``ESP32C2_2MB_TOKEN``; ``""`` for none."""
    alias = f"{variable.removeprefix(TOKEN)}_TOKEN"
    return alias if variable.startswith(TOKEN) and _ALIAS.fullmatch(alias) else ""


@contextlib.contextmanager
def apply(root: Path, tokens: OtaTokens) -> Iterator[None]:
    """Have the tokens in the header of a checkout while the block runs; it is for its owner only then.

    Afterwards the header is as it was, but newer than what was compiled with it, so that the next build
    compiles that anew.

    Raises:
        InputError: the header cannot be read or written.
    """
    remove_tokens(root)
    if not tokens.macros:
        yield
        return
    path = check_output(root / HEADER)
    before = read_file(path, "header", _MAX_SIZE)
    mode = stat.S_IMODE(path.stat().st_mode)
    lines = [f'#undef {macro}\n#define {macro} "{token}"\n' for macro, token in tokens.macros.items()]
    try:
        _put(path, before + _MARK + "".join(lines).encode("ascii"), None)
        yield
    finally:
        remove_tokens(root, mode)


@contextlib.contextmanager
def with_tokens(
    environment: Mapping[str, str], root: Path, platform: str, module: str
) -> Iterator[OtaTokens]:
    """Have the tokens of a module in the header while the block runs, and give them.

    It is :func:`find_tokens` and :func:`apply` in one, for a build: what is said during it goes through
    :meth:`OtaTokens.hide`.

    Raises:
        InputError: see both.
    """
    tokens = find_tokens(environment, root, platform, module)
    with apply(root, tokens):
        yield tokens


def holds_tokens(root: Path) -> bool:
    """Tell whether a build that was killed has left tokens in the header of a checkout.

    Raises:
        InputError: the header cannot be read.
    """
    path = root / HEADER
    return path.exists() and _MARK in read_file(path, "header", _MAX_SIZE)


def remove_tokens(root: Path, mode: int | None = None) -> bool:
    """Take the tokens out of the header of a checkout, and tell whether there were any.

    Args:
        root: the top of the checkout.
        mode: the permissions that the header gets, None for those of a new file.

    Raises:
        InputError: the header cannot be read or written.
    """
    if not (root / HEADER).exists():
        return False
    path = check_output(root / HEADER)
    data = read_file(path, "header", _MAX_SIZE)
    own, mark, _ = data.partition(_MARK)
    if not mark:
        return False
    if mode is None:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    _put(path, own, mode)
    return True


def _put(path: Path, data: bytes, mode: int | None) -> None:
    """Replace a file; without a mode it is for its owner only, from the moment when it has its contents."""
    new = stage_file(temporary_beside(path), [data], private=True)
    if mode is not None:
        new.chmod(mode)
    replace_files([(new, path)])


# --- variables -----------------------------------------------------------------------------------


def _name_of(variable: str) -> str:
    """Return ``WROOM32`` of ``AT_OTA_TOKEN_WROOM32``."""
    return variable.removeprefix(SSL_TOKEN).removeprefix(TOKEN)


def _by_macro(rows: Iterable[tuple[str, str]]) -> dict[str, list[_Variable]]:
    """Return for each macro of a module the variables that can set it, the most particular first.

    The second of two macros with one name is that for TLS.
    """
    found: dict[str, list[_Variable]] = {}
    for prefix, name in rows:
        macro = f"{_MACRO}{prefix}{name}"
        found[macro] = []
        for token in (name, _KEY):
            for kind in dict.fromkeys((prefix, TOKEN)):
                names = [f"{kind}{token}"]
                if kind == TOKEN and _ALIAS.fullmatch(f"{token}_TOKEN"):
                    names.append(f"{token}_TOKEN")
                found[macro] += [_Variable(each, macro, f"{kind}{token}") for each in names]
    return found


def _token(variable: str, given: Mapping[str, str]) -> str:
    token = given[variable]
    if not _VALUE.fullmatch(token):
        raise InputError(
            f"{variable}: what it holds is no OTA token",
            "a token has 1 to 100 letters, digits and ._~+/=:- in one line, without quotes",
        )
    return token


def _unknown(variable: str, known: Iterable[str]) -> str:
    from esp_at_tools.catalog.module_yaml import nearest

    prefix = SSL_TOKEN if variable.startswith(SSL_TOKEN) else TOKEN
    near = nearest(_name_of(variable), known)
    hint = f"did you mean {prefix}{near}?" if near else "it is not used"
    return f"{variable[:60]}: this checkout has no such token; {hint}"


# --- what the checkout says ----------------------------------------------------------------------


def _target(platform: str) -> str:
    return platform.strip().upper().removeprefix("PLATFORM_")


def _text(path: Path) -> str:
    try:
        return read_file(path, "source file of esp-at", _MAX_SIZE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8: {error}", "check it out again") from error


def _read_table(root: Path) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """Return (chip, module) → the prefixes and names of its two tokens; none where the row says ``NULL``."""
    found: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    target = ""
    for line in _text(root / TABLE).splitlines():
        if match := _TARGET.match(line):
            target = match[1]
        elif _END.match(line):
            target = ""
        elif target and (match := _ROW.match(line)):
            macros = [macro.removeprefix(_MACRO) for macro in (match[2], match[3]) if macro != "NULL"]
            found[target, match[1].casefold()] = tuple(
                (prefix, macro.removeprefix(prefix))
                for macro in macros
                for prefix in (SSL_TOKEN, TOKEN)
                if macro.startswith(prefix)
            )
    return found


def _known_names(root: Path, table: Mapping[tuple[str, str], tuple[tuple[str, str], ...]]) -> list[str]:
    names = {name for rows in table.values() for _, name in rows}
    names.update(match[2] for line in _text(root / HEADER).splitlines() if (match := _DEFINE.match(line)))
    return sorted(names - {_DEFAULT})
