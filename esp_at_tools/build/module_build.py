"""A build in one call, for programs that use the package as a library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from esp_at_tools.build.job import BuildSource, Built, Job, run
from esp_at_tools.build.options import Options
from esp_at_tools.errors import InputError
from esp_at_tools.firmware.request import Request
from esp_at_tools.pki.names import PKI_ITEMS
from esp_at_tools.settings.layout import Value
from esp_at_tools.settings.names import SETTINGS, check_name


def build_module(
    name: str,
    output: Path | str,
    *,
    source: Path | str = "",
    silence: bool = False,
    settings: Mapping[str, Value] | None = None,
    pki: Path | str | None = None,
    fs_image: Path | str | None = None,
    flash_size: int | None = None,
    partition_sizes: Mapping[str, int] | None = None,
    module_folder: Path | str | None = None,
    force: bool = False,
) -> Built:
    """Make the build folder of a module, as ``esp-at-tool build`` does, and return what is in it.

    Args:
        name: ``ESP32C3/MINI-1``; ``""`` for the module that a release folder, ``.zip`` or image is for.
        output: the build folder; one of an earlier build is replaced as a whole.
        source: ``""`` for the definitions that come with the package; a release folder, ``.zip`` or full
            image; an esp-at checkout, of which the configuration is made; ``v4.1.1.0``, ``latest`` or
            ``recommended`` for the official release of the module, which is downloaded once.
        silence: the variant without log.
        settings: setting or GATT row → value: ``{"uart_baudrate": 921600}``.
        pki: folder of certificates and keys that are named for what they are: ``mqtt_ca.pem``.
        fs_image: folder whose files become the file system.
        flash_size: bytes of flash for which the partitions are laid out anew.
        partition_sizes: user partition → its bytes: ``{"mfg_nvs": 0x40000}``.
        module_folder: the user's own definitions; of a checkout, its external module configuration.
        force: allow what is risky; what is impossible stays an error.

    Raises:
        InputError: something that is asked for is impossible or cannot be read; nothing is written.
        RiskyValueError: something is probably a mistake, and ``force`` is not given.
        FormatError: a definition, release, certificate or file of a checkout is wrong.
    """
    request = Request()
    for key, value in (settings or {}).items():
        check_name(key)
        if key in PKI_ITEMS:
            raise InputError(f"settings: {key} is a certificate or key", "pki names the folder of its file")
        if key in SETTINGS:
            request.settings[key] = value
        else:
            request.gatts[key] = str(value)
    if pki is not None:
        add_pki_folder(request, Path(pki))
    given = BuildSource.of(str(source)) if str(source) else BuildSource("definitions")
    options = Options(
        silence=silence,
        config_only=given.kind == "tree",
        module_folder=None if module_folder is None else Path(module_folder),
        request=request,
        force=force,
        fs_image=None if fs_image is None else Path(fs_image),
        flash_size=flash_size,
        partition_sizes=dict(partition_sizes or {}),
    )
    return run(Job(given, name or None, Path(output), options))


def add_pki_folder(request: Request, folder: Path) -> None:
    """Add the certificates and keys of a folder; what is asked for already stays as it is.

    Args:
        request: what is asked for.
        folder: with files that are named for what they are, or with a profile.

    Raises:
        InputError: the folder or a file cannot be read, or a file is no certificate or key.
    """
    from esp_at_tools.pki.folder import PROFILE_NAME, read_pki_folder

    found = read_pki_folder(folder)
    if found is None:
        request.add_profile(folder / PROFILE_NAME)
        return
    taken = set(request.names())
    for name, path in found.items():
        if name not in taken:
            request.add_pki_file(name, path, f"--pki {name}")
