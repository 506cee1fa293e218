"""What the TLS library of a firmware accepts, as far as the firmware tells it."""

from __future__ import annotations

from esp_at_tools.errors import FormatError
from esp_at_tools.firmware.release import Release
from esp_at_tools.firmware.source import Source
from esp_at_tools.pki.tls_support import OFFICIAL, TlsSupport

SDKCONFIG = "sdkconfig"
"""The file of a release that says how the firmware was compiled."""


def tls_support(source: Source) -> tuple[TlsSupport, str]:
    """Return what the TLS library of a firmware accepts, and why its sdkconfig cannot be read.

    It is what the sdkconfig of a release says; for everything else what all official firmware has.
    """
    from esp_at_tools.formats.sdkconfig import Sdkconfig

    if not isinstance(source, Release) or not source.has(SDKCONFIG):
        return OFFICIAL, ""
    try:
        config = Sdkconfig.from_text(source.text(SDKCONFIG))
    except FormatError as error:
        return OFFICIAL, error.message
    return TlsSupport.from_sdkconfig(config) or OFFICIAL, ""
