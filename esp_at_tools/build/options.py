"""What a user asks of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esp_at_tools.firmware.request import Request


@dataclass(frozen=True)
class Options:
    """What decides a build besides the module and the source.

    Attributes:
        silence: the variant without log.
        config_only: the configuration alone, although the source has an application or could make one.
        sdkconfig: a resolved sdkconfig that is taken instead of making one.
        idf: the ESP-IDF whose Kconfig files resolve the sdkconfig of a source tree.
        module_folder: the user's own module definitions.
        request: settings, certificates, keys and GATT rows to put in.
        force: what is risky is allowed.
        fs_image: folder whose contents become the file system.
        flash_size: bytes of flash for which the partitions are laid out anew, None to leave them.
        partition_sizes: name of a user partition → the bytes that it shall have.
        features: ``+fs``, ``-websocket``, ``bluetooth_host=nimble``, for the definitions of modules.
        sdkconfig_options: option without ``CONFIG_`` → its value in an sdkconfig, likewise.
    """

    silence: bool = False
    config_only: bool = False
    sdkconfig: Path | None = None
    idf: Path | None = None
    module_folder: Path | None = None
    request: Request = field(default_factory=Request)
    force: bool = False
    fs_image: Path | None = None
    flash_size: int | None = None
    partition_sizes: Mapping[str, int] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    sdkconfig_options: Mapping[str, str] = field(default_factory=dict)
