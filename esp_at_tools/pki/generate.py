"""A private authority, and certificates and keys that it issues for everything in which AT firmware uses TLS.

The extensions are those of RFC 5280 that mbedTLS, OpenSSL and browsers ask for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from esp_at_tools.errors import InputError
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    _PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

KeyType = Literal["rsa2048", "rsa3072", "ec256"]
KEY_TYPES: tuple[KeyType, ...] = ("ec256", "rsa2048", "rsa3072")

GENERATED_ROLES = ("server", "client.0", "client.1", "mqtt", "wpa2", "https.0", "https.1", "wss.0", "wss.1")
"""The sets that firmware up to v5.0 reads; for EAP it reads ``wpa2_…``, whatever newer tools call it."""

DEFAULT_SERVERS = ("localhost", "127.0.0.1", "192.168.4.1")
"""Names of the server where none are given; the last is a module's own address as a SoftAP."""
DEFAULT_DAYS = 3650
MAX_DAYS = 36500
CLOCK_SKEW = timedelta(days=1)
"""How long before now a certificate is valid, for devices whose clock is late."""

PROFILE_NAME = "profile.yaml"
CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST = 253
_MAX_COMMON_NAME = 64


@dataclass(frozen=True)
class GeneratedFile:
    """One file of a generated set.

    Attributes:
        name: what it is called.
        data: its contents.
        secret: whether it holds a private key.
        about: what it is, for people.
    """

    name: str
    data: bytes = field(repr=False)
    secret: bool
    about: str


@dataclass(frozen=True)
class _Issued:
    certificate: x509.Certificate
    key: _PrivateKey = field(repr=False)


def check_server(name: str) -> str:
    """Return a name or address of a server as certificates have it.

    Raises:
        InputError: it is neither a host name nor an IP address.
    """
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        host = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        host = ""
    if len(host) > _MAX_HOST or not _HOST.fullmatch(host) or re.fullmatch(r"[0-9.]+", host):
        hint = "write mqtt.example.com, *.example.com, 192.168.4.1 or fd00::1, without https:// and port"
        raise InputError(f"--server {name}: is neither a host name nor an IP address", hint)
    return host


def chosen_roles(asked: Iterable[str]) -> tuple[str, ...]:
    """Return the sets that names stand for: ``mqtt``, ``client.0``, ``client`` for both; none is all.

    Raises:
        InputError: a name stands for none.
    """
    chosen: set[str] = set()
    for name in asked:
        found = {role for role in GENERATED_ROLES if name.lower() in (role, role.partition(".")[0])}
        if not found:
            raise InputError(f"--for {name}: is no set", f"the sets are {', '.join(GENERATED_ROLES)}")
        chosen |= found
    return tuple(role for role in GENERATED_ROLES if role in chosen or not chosen)


def generate_pki(
    servers: Sequence[str],
    *,
    days: int = DEFAULT_DAYS,
    key_type: KeyType = "ec256",
    now: datetime,
    roles: Sequence[str] = GENERATED_ROLES,
) -> list[GeneratedFile]:
    """Make an authority, sets, and a profile that names them.

    Args:
        servers: names and addresses of the server whose certificate is ``server_cert``.
        days: how long everything is valid, 1 to 36500.
        key_type: of all keys.
        now: the present, with a time zone; everything is valid from a day before on.
        roles: the sets, some of ``GENERATED_ROLES``.

    Returns:
        The files, keys as PKCS#8 in PEM; the profile is the last.

    Raises:
        InputError: a name of a server, or the days, are impossible.
    """
    if not 1 <= days <= MAX_DAYS:
        raise InputError(f"--days {days}: is not 1 to {MAX_DAYS}", f"{DEFAULT_DAYS} is ten years")
    names = list(dict.fromkeys(check_server(each) for each in servers or DEFAULT_SERVERS))
    authority = _authority(key_type, now, days)
    ca = _pem(authority.certificate)
    files = [
        GeneratedFile(
            CA_CERTIFICATE, ca, secret=False, about="the authority's certificate, for your servers"
        ),
        GeneratedFile(
            CA_KEY, _key_pem(authority.key), secret=True, about="the authority's key; keep it safe"
        ),
    ]
    for role in roles:
        issued = _issue(role, names if role == "server" else (), authority, key_type, now, days)
        files += _set_files(role, ca, issued)
    profile = _profile([file.name for file in files[2:]])
    return [
        *files,
        GeneratedFile(PROFILE_NAME, profile, secret=False, about="names them for modify-bin and build"),
    ]


def _set_files(role: str, ca: bytes, issued: _Issued) -> Iterator[GeneratedFile]:
    yield GeneratedFile(f"{PKI_SETS[role]['ca']}.pem", ca, secret=False, about=f"{role}: the authority")
    name = f"{PKI_SETS[role]['certificate']}.pem"
    yield GeneratedFile(name, _pem(issued.certificate), secret=False, about=f"{role}: certificate")
    yield GeneratedFile(
        f"{PKI_SETS[role]['private_key']}.pem", _key_pem(issued.key), secret=True, about=f"{role}: key"
    )


def _profile(names: Sequence[str]) -> bytes:
    lines = [f"  {name.removesuffix('.pem')}: {name}" for name in names]
    order = list(PKI_ITEMS)
    lines.sort(key=lambda line: order.index(line.strip().partition(": ")[0]))
    comment = "# Made by 'esp-at-tool pki generate'; paths are relative to this file.\n"
    return (comment + "pki:\n" + "\n".join(lines) + "\n").encode()


def _new_key(key_type: KeyType) -> _PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if key_type == "ec256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(key_type.removeprefix("rsa")))


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ESP-AT"),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ])  # fmt: skip


def _key_usage(*granted: str) -> x509.KeyUsage:
    from cryptography import x509

    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in granted for name in names})


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _PrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - CLOCK_SKEW).replace(microsecond=0))
        .not_valid_after((now + timedelta(days=days)).replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(key_type: KeyType, now: datetime, days: int) -> _Issued:
    """Make the root; its name is another each time, so that two roots are not taken for one."""
    import os

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _new_key(key_type)
    name = _name(f"Private root {os.urandom(4).hex()}")
    built = (
        _builder(name, name, key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
    )
    return _Issued(built.sign(key, hashes.SHA256()), key)


def _issue(
    role: str, servers: Sequence[str], authority: _Issued, key_type: KeyType, now: datetime, days: int
) -> _Issued:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _new_key(key_type)
    root = authority.certificate
    common_name = servers[0] if servers and len(servers[0]) <= _MAX_COMMON_NAME else f"AT {role}"
    usage = ["digital_signature", *(["key_encipherment"] if key_type.startswith("rsa") else [])]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if servers else ExtendedKeyUsageOID.CLIENT_AUTH
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(common_name), root.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(*usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    if servers:
        names = x509.SubjectAlternativeName([_general_name(each) for each in servers])
        builder = builder.add_extension(names, critical=False)
    return _Issued(builder.sign(authority.key, hashes.SHA256()), key)


def _general_name(server: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(server))
    except ValueError:
        return x509.DNSName(server)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: _PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
