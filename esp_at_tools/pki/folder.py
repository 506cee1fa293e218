"""A folder of certificates and keys, told apart by their names."""

from __future__ import annotations

from pathlib import Path

from esp_at_tools.errors import InputError
from esp_at_tools.pki.file_names import SUFFIXES, item_by_path
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.pki.sniff import Sniffed, kind_of, list_files, sniff

PROFILE_NAME = "profile.yaml"
"""What a profile beside the files is called; it tells what each of them is for."""

RAW_DATA = "raw_data"
"""The folder of esp-at that holds the official certificates and keys, one folder per group."""


def read_pki_folder(folder: Path) -> dict[str, Path] | None:
    """Return which file of a folder is which PKI item, or None where a profile in it tells that.

    The files are named for the items (``mqtt_ca.pem``, ``client_cert.0.crt``, ``client_cert0.pem``,
    ``client_cert_00.crt``) or lie as in esp-at's ``raw_data`` (``mqtt_key/mqtt_client.key``). What has
    nothing to do with certificates is passed over.

    Args:
        folder: the folder; where it has a file ``profile.yaml`` (:data:`PROFILE_NAME`), that profile
            is what to use.

    Raises:
        InputError: it is no folder, or holds no such files; a file that looks like a certificate or a
            key is named for no item; two are named for one.
    """
    if (folder / PROFILE_NAME).is_file():
        return None
    found: dict[str, Path] = {}
    for path in list_files(folder):
        name = item_by_path(path.relative_to(folder))
        if not name:
            _check_unrelated(path)
        elif path.suffix.lower() not in SUFFIXES and not sniff(path).related:
            continue  # a README in the folder of a group
        elif name in found:
            both = f"{found[name].relative_to(folder)} and {path.relative_to(folder)}"
            raise InputError(f"{folder}: {both} are both named for {name}", "leave one of them")
        else:
            found[name] = path
    if not found:
        raw_data = folder / RAW_DATA
        hint = (
            f"did you mean {raw_data}?"
            if raw_data.is_dir()
            else "name them mqtt_ca.pem, client_cert.0.pem, …"
        )
        raise InputError(f"{folder}: no file in it is named for a certificate or key", hint)
    return {name: found[name] for name in PKI_ITEMS if name in found}


def _check_unrelated(path: Path) -> None:
    found = sniff(path)
    if not found.related and path.suffix.lower() not in set(SUFFIXES) - {".txt"}:
        return
    if not found.usable:
        hint = f"{found.hint}, or move it out of the folder"
        raise InputError(f"{path}: {found.problem}, and is named for no item", hint)
    names = ", ".join(_candidates(found))
    hint = f"name it for what it is for ({names}), or 'esp-at-tool pki import' makes a profile"
    what = {"ca": "a CA certificate", "certificate": "a certificate", "private_key": "a private key"}
    raise InputError(f"{path}: is {what[kind_of(found)]}, but its name tells not what for", hint)


def _candidates(found: Sniffed) -> list[str]:
    """Return what a usable file could be called, with ``.pem`` or ``.der``."""
    suffix = found.info.format if found.info else "pem"
    kind = kind_of(found)
    return [f"{item.name}.{suffix}" for item in PKI_ITEMS.values() if item.kind == kind]
