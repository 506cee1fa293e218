"""What the TLS library of a firmware accepts, as its sdkconfig has it.

Source: ``components/mbedtls/port/include/mbedtls/esp_config.h`` and ``components/mbedtls/Kconfig`` of
ESP-IDF (v4.3 and v5.4.4 agree), ``soc_caps.h`` of each chip, and ``mbedtls_ssl_write_certificate`` of
mbedTLS 3.6 for the size of what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from esp_at_tools.formats.sdkconfig import Sdkconfig

_CURVES = {
    "SECP192R1": "secp192r1",
    "SECP224R1": "secp224r1",
    "SECP256R1": "ec256",
    "SECP384R1": "ec384",
    "SECP521R1": "ec521",
    "SECP256K1": "secp256k1",
    "BP256R1": "brainpoolP256r1",
    "BP384R1": "brainpoolP384r1",
    "BP512R1": "brainpoolP512r1",
}
"""Option ``MBEDTLS_ECP_DP_…_ENABLED`` → the curve as :class:`esp_at_tools.pki.items.PkiInfo` has it."""

_RSA_HARDWARE_BITS = {"esp32": 4096, "esp32s2": 4096, "esp32s3": 4096}
_RSA_HARDWARE_BITS_OF_OTHERS = 3072
_MAX_RSA_BITS = 8192
"""``MBEDTLS_MPI_MAX_SIZE`` is 1024 bytes."""


@dataclass(frozen=True)
class TlsSupport:
    """What a firmware's mbedTLS accepts.

    Attributes:
        known: whether this is from the firmware's own sdkconfig; else it is what all official ones share.
        curves: curves of keys, as :class:`esp_at_tools.pki.items.PkiInfo` names them.
        hashes: hashes of signatures.
        pem: whether it reads PEM.
        max_rsa_bits: longest RSA key that it computes with.
        checks_dates: whether it compares the validity of a peer's certificate, and of the CA certificates
            that it leads to, with its clock.
        max_sent: most bytes of a handshake message that it sends, thus of a certificate with its chain.
        critical_extensions: whether it takes certificates with critical extensions that it does not know.
    """

    known: bool = False
    curves: frozenset[str] = frozenset(_CURVES.values())
    hashes: frozenset[str] = frozenset({"md5", "sha1", "sha224", "sha256", "sha384", "sha512"})
    pem: bool = True
    max_rsa_bits: int = 4096
    checks_dates: bool = True
    max_sent: int = 4096
    critical_extensions: bool = False

    @classmethod
    def from_sdkconfig(cls, config: Sdkconfig) -> TlsSupport | None:
        """Return what a resolved sdkconfig says, None where it does not configure mbedTLS."""
        if not any(name.startswith("MBEDTLS_") for name in config.options):
            return None

        def off(name: str) -> bool:  # what an older ESP-IDF has no option for is on
            return config.get(name) == "n"

        curves = frozenset(
            name for option, name in _CURVES.items() if not off(f"MBEDTLS_ECP_DP_{option}_ENABLED")
        )
        unused = {"sha1"} if off("MBEDTLS_SHA1_C") else set()
        unused |= {"sha384", "sha512"} if off("MBEDTLS_SHA512_C") else set()
        size = "MBEDTLS_SSL_OUT_CONTENT_LEN"
        if not config.is_on("MBEDTLS_ASYMMETRIC_CONTENT_LEN"):
            size = "MBEDTLS_SSL_MAX_CONTENT_LEN"
        return cls(
            known=True,
            curves=frozenset() if off("MBEDTLS_ECP_C") or off("MBEDTLS_ECDSA_C") else curves,
            hashes=cls.hashes - unused,
            pem=not off("MBEDTLS_PEM_PARSE_C"),
            max_rsa_bits=_max_rsa_bits(config),
            checks_dates=not (off("MBEDTLS_HAVE_TIME") or off("MBEDTLS_HAVE_TIME_DATE")),
            max_sent=config.number(size) or cls.max_sent,
            critical_extensions=config.is_on("MBEDTLS_ALLOW_UNSUPPORTED_CRITICAL_EXT"),
        )


def _max_rsa_bits(config: Sdkconfig) -> int:
    """Return the longest RSA key; without the fall-back to software the hardware's limit counts."""
    if not config.is_on("MBEDTLS_HARDWARE_MPI") or config.is_on("MBEDTLS_LARGE_KEY_SOFTWARE_MPI"):
        return _MAX_RSA_BITS
    return _RSA_HARDWARE_BITS.get(config.string("IDF_TARGET"), _RSA_HARDWARE_BITS_OF_OTHERS)


OFFICIAL = TlsSupport()
"""What every official firmware of v2.2 to v5.0 accepts."""
