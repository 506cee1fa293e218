"""A folder of certificates and keys as a cloud or a broker hands it out, made into a profile.

What a file is, and which key belongs to which certificate, is told by the contents; names only say which
of several authorities is meant (``AmazonRootCA1.pem``), or that the files are named for the items already.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esp_at_tools.errors import FormatError, InputError
from esp_at_tools.pki.collection import CollectedItem, purpose_of
from esp_at_tools.pki.extension_checks import suits
from esp_at_tools.pki.file_names import item_by_path
from esp_at_tools.pki.folder import PROFILE_NAME
from esp_at_tools.pki.items import PkiInfo, describe, load
from esp_at_tools.pki.names import PKI_ITEMS, PKI_SETS, listed
from esp_at_tools.pki.signatures import signed_by
from esp_at_tools.pki.sniff import Sniffed, kind_of, list_files, natural, sniff

if TYPE_CHECKING:
    from cryptography import x509

DEFAULT_ROLE = "mqtt"
"""What a cloud hands certificates out for, if nothing else is said."""

_DEPTH = 3
_MAX_LISTED = 20
_CONVERTERS = ("openssl", "keytool", "ssh-keygen", "puttygen")
_AWS = "CN=Amazon Root CA 1,O=Amazon,C=US"
_DIGICERT = "OU=www.digicert.com,O=DigiCert Inc,C=US"
_LETS_ENCRYPT = "O=Internet Security Research Group,C=US"
_GOOGLE = "O=Google Trust Services LLC,C=US"
_AZURE = f"CN=DigiCert Global Root G2,{_DIGICERT}"
_PUBLIC_ROOTS = {
    _AWS: _AWS,
    **{f"CN=Amazon Root CA {number},O=Amazon,C=US": _AWS for number in (2, 3, 4)},
    _AZURE: _AZURE,
    f"CN=DigiCert Global Root CA,{_DIGICERT}": _AZURE,
    f"CN=DigiCert Global Root G3,{_DIGICERT}": _AZURE,
    "CN=Baltimore CyberTrust Root,OU=CyberTrust,O=Baltimore,C=IE": _AZURE,
    "CN=Microsoft RSA Root Certificate Authority 2017,O=Microsoft Corporation,C=US": _AZURE,
    "CN=Microsoft ECC Root Certificate Authority 2017,O=Microsoft Corporation,C=US": _AZURE,
    f"CN=ISRG Root X1,{_LETS_ENCRYPT}": f"CN=ISRG Root X1,{_LETS_ENCRYPT}",
    f"CN=ISRG Root X2,{_LETS_ENCRYPT}": f"CN=ISRG Root X1,{_LETS_ENCRYPT}",
    "CN=GlobalSign Root CA,OU=Root CA,O=GlobalSign nv-sa,C=BE": "",
    "CN=GlobalSign,O=GlobalSign,OU=GlobalSign Root CA - R3": "",
    **{f"CN=GTS Root R{number},{_GOOGLE}": f"CN=GTS Root R1,{_GOOGLE}" for number in (1, 2, 3, 4)},
    "CN=USERTrust RSA Certification Authority,O=The USERTRUST Network,L=Jersey City,ST=New Jersey,C=US": "",
}
"""Public roots that the servers of clouds and brokers have, by subject → which of a provider's is meant.

AWS hands out a root for EC servers as well; the servers of Azure IoT moved to DigiCert Global Root G2.
"""


@dataclass(frozen=True)
class LeftOut:
    """A file that is not in the profile.

    Attributes:
        path: the file.
        reason: why.
        hint: what to do to have it in; may be empty.
        convertible: whether it may be what is missing, once it is converted.
    """

    path: Path
    reason: str
    hint: str = ""
    convertible: bool = False


@dataclass(frozen=True)
class Imported:
    """What a folder is for.

    Attributes:
        files: item → its file.
        left_out: the other files.
    """

    files: Mapping[str, Path]
    left_out: Sequence[LeftOut]

    def items(self) -> list[CollectedItem]:
        """Return the items for :func:`esp_at_tools.pki.collection.check_collection`."""
        return [
            CollectedItem.official(name, sniff(path).data, path=path) for name, path in self.files.items()
        ]

    def profile(self, path: Path) -> bytes:
        """Return the text of the profile that stands at ``path``; the files are named relative to it.

        Raises:
            InputError: a file has a name that cannot stand in a profile.
        """
        lines = [f"  {name}: {_quoted(_relative(file, path))}" for name, file in self.files.items()]
        head = "# Made by 'esp-at-tool pki import'; paths are relative to this file.\n"
        return (head + "pki:\n" + "\n".join(lines) + "\n").encode()


@dataclass(frozen=True)
class _Key:
    file: Sniffed
    info: PkiInfo


@dataclass
class _Sorted:
    """The files of a folder by what they are; each that is not used is given its reason."""

    leaves: list[Sniffed] = field(default_factory=list)
    authorities: list[Sniffed] = field(default_factory=list)
    keys: list[_Key] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave(self, path: Path, reason: str, hint: str = "", *, convertible: bool = False) -> None:
        self.left_out.append(LeftOut(path, reason, hint, convertible))


def import_folder(
    folder: Path, *, role: str = "", certificate: Path | None = None, ca: Path | None = None
) -> Imported:
    """Find out which file of a folder is what.

    Args:
        folder: the folder; those in it are looked into, three levels down.
        role: the set that the files are for (``mqtt``, ``client.0``, …). Without it, files that are named
            for items are what their names say, and others are for ``mqtt``.
        certificate: which certificate is meant, where there are several.
        ca: likewise which CA certificate.

    Raises:
        InputError: ``role`` is none, the folder holds nothing that can be used, or it is not clear what
            is meant; the message lists what there is.
    """
    if role and role not in PKI_SETS:
        raise InputError(f"--set {role}: is not the name of a set", f"the sets are {', '.join(PKI_SETS)}")
    found = _sort(folder, [sniff(path) for path in list_files(folder, _DEPTH)])
    if not role and certificate is None and ca is None:
        named = _by_name(folder, found)
        if named is not None:
            return named
    return _by_content(folder, found, role or DEFAULT_ROLE, certificate, ca)


def _sort(folder: Path, files: Iterable[Sniffed]) -> _Sorted:
    found = _Sorted()
    for file in files:
        if file.path.name == PROFILE_NAME:
            continue
        if file.contents is None or file.info is None:
            convertible = file.related and any(tool in file.hint for tool in _CONVERTERS)
            hint = file.hint if convertible or (file.related and not file.foreign) else ""
            reason = file.problem if file.related else "is no certificate or key"
            found.leave(file.path, reason, hint, convertible=convertible)
            continue
        if file.contents.key_count:
            _sort_key(found, file)
        if file.contents.certificates:
            group = found.authorities if kind_of(file) == "ca" else found.leaves
            group.append(file)
    if not (found.leaves or found.authorities or found.keys):
        helped = [each for each in found.left_out if each.hint]
        if len(helped) == 1:
            message = f"{helped[0].path}: {helped[0].reason}, and nothing else in the folder can be used"
            raise InputError(message, helped[0].hint)
        problems = [f"{_name(each.path, folder)} {each.reason}" for each in helped]
        hints = list(dict.fromkeys(each.hint for each in helped))
        what = f": {listed(problems)}" if problems else ""
        hint = "; ".join(hints[:3]) or "give the folder of the certificates and keys, unpacked"
        raise InputError(f"{folder}: holds no certificate or key that can be used{what}", hint)
    return found


def _sort_key(found: _Sorted, file: Sniffed) -> None:
    """Take the key of a file, which may hold certificates as well."""
    try:
        contents = load(file.data, file.path.name, "private_key")
    except FormatError as error:
        found.leave(file.path, error.message, error.hint)
        return
    if contents.encrypted:
        output = file.path.with_suffix(".decrypted.key")
        command = f"openssl pkey -in {shlex.quote(str(file.path))} -out {shlex.quote(str(output))}"
        hint = f"take the password off: {command}"
        reason = "is a key that needs a password, which the firmware does not have"
        found.leave(file.path, reason, hint, convertible=True)
        return
    found.keys.append(_Key(file, describe(contents, file.data)))


def _by_name(folder: Path, found: _Sorted) -> Imported | None:
    """Return the files by their names, where all of them are named for items."""
    usable = list(dict.fromkeys([*(f.path for f in (*found.leaves, *found.authorities)),
                                 *(key.file.path for key in found.keys)]))  # fmt: skip
    names = {path: item_by_path(path.relative_to(folder)) for path in usable}
    if not all(names.values()):
        return None
    if len(set(names.values())) < len(names):
        return None
    order = list(PKI_ITEMS)
    by_item = {name: path for path, name in names.items()}
    return Imported({name: by_item[name] for name in sorted(by_item, key=order.index)}, found.left_out)


def _by_content(
    folder: Path, found: _Sorted, role: str, certificate: Path | None, ca: Path | None
) -> Imported:
    leaf, key = _pair(folder, found, role, certificate)
    authority = _authority(folder, found, leaf, ca, role)
    chosen = {
        PKI_SETS[role]["ca"]: authority,
        PKI_SETS[role]["certificate"]: leaf,
        PKI_SETS[role]["private_key"]: key,
    }
    files = {name: file.path for name, file in chosen.items() if file is not None}
    _explain_rest(found, leaf, authority, {*files.values()})
    return Imported(files, sorted(found.left_out, key=lambda each: natural(each.path)))


def _pair(
    folder: Path, found: _Sorted, role: str, wanted: Path | None
) -> tuple[Sniffed | None, Sniffed | None]:
    """Return the certificate and the key that belongs to it."""
    by_print: dict[str, Sniffed] = {}
    for key in found.keys:
        kept = by_print.setdefault(key.info.public_key_sha256, key.file)
        if kept.path != key.file.path and kept.contents and kept.contents.certificates:
            by_print[key.info.public_key_sha256] = key.file  # a file of its own is better
    candidates = found.leaves
    if wanted is not None:
        candidates = [_chosen(wanted, folder, [*found.leaves, *found.authorities], "--certificate")]
    elif not candidates and any(_print_of(each) in by_print for each in found.authorities):
        candidates = [each for each in found.authorities if each.info and not each.info.is_ca]  # self-signed
    paired = _distinct([each for each in candidates if _print_of(each) in by_print])
    suited = [
        each for each in paired if each.contents and suits(each.contents.certificates[0], purpose_of(role))
    ]
    if len(paired) > 1 and len(suited) == 1:
        paired = suited
    if len(paired) > 1:
        raise _ambiguous(folder, paired, "certificates with their keys", "--certificate")
    if paired:
        return paired[0], by_print[_print_of(paired[0])]
    return _without_key(folder, found, candidates)


def _without_key(folder: Path, found: _Sorted, candidates: list[Sniffed]) -> tuple[None, None]:
    """Say what is missing, unless there is nothing but authorities, which is enough to check a server."""
    for each in found.left_out:
        if each.convertible:
            raise InputError(f"{each.path}: {each.reason}, so its key cannot be used as it is", each.hint)
    if candidates:
        names = listed([_name(each.path, folder) for each in _distinct(candidates)])
        if found.keys:
            keys = listed([_name(key.file.path, folder) for key in found.keys])
            message = f"{folder}: no key in it belongs to {names}: not {keys}"
            raise InputError(message, "give the key that was made with the certificate")
        hint = "put the private key that was made with it into the folder"
        raise InputError(f"{folder}: the private key of {names} is not in it", hint)
    spare = [key for key in found.keys if not any(_print_of(each) == key.info.public_key_sha256
                                                  for each in found.authorities)]  # fmt: skip
    if spare:
        name = _name(spare[0].file.path, folder)
        hint = "put the certificate that was issued for it into the folder"
        raise InputError(f"{folder}: the certificate for the key {name} is not in it", hint)
    return None, None


def _authority(
    folder: Path, found: _Sorted, leaf: Sniffed | None, wanted: Path | None, role: str
) -> Sniffed | None:
    """Return the CA certificate with which the device will check its peer."""
    if wanted is not None:
        return _chosen(wanted, folder, [*found.authorities, *found.leaves], "--ca")
    candidates = _distinct([each for each in found.authorities if each is not leaf])
    public = [each for each in candidates if each.info is not None and each.info.subject in _PUBLIC_ROOTS]
    if public and role != "server":  # the authority of a server's set is that of its clients
        meant = {_PUBLIC_ROOTS[each.info.subject] or each.info.subject for each in public if each.info}
        best = [each for each in public if each.info and {each.info.subject} == meant] or public
        if len(best) > 1:
            raise _ambiguous(folder, best, "CA certificates of servers", "--ca")
        return best[0]
    tops = [each for each in candidates if not any(_issued(each, other) for other in candidates)]
    tops = tops or candidates
    if len(tops) > 1:
        raise _ambiguous(folder, tops, "CA certificates", "--ca", "the one that is to be trusted")
    return tops[0] if tops else None


def _issued(file: Sniffed, other: Sniffed) -> bool:
    """Tell whether another authority stands above one."""
    below, above = _first_of(file), _first_of(other)
    if below is None or above is None or below == above or file.info is None or other.info is None:
        return False
    if file.info.subject == file.info.issuer or file.info.issuer != other.info.subject:
        return False
    return signed_by(below, above)


def _explain_rest(found: _Sorted, leaf: Sniffed | None, authority: Sniffed | None, used: set[Path]) -> None:
    """Say of every file that could be used and is not, why not."""
    told = {each.path for each in found.left_out}
    of_authorities = {_print_of(each) for each in found.authorities}
    for key in found.keys:
        if key.file.path not in used | told:
            secret = key.info.public_key_sha256 in of_authorities
            reason = "is the key of an authority, which no device may have" if secret else "is another key"
            found.leave(key.file.path, reason)
            told.add(key.file.path)
    for file in (*found.leaves, *found.authorities):
        if file.path not in used | told:
            found.leave(file.path, _why_not(file, leaf, authority))


def _why_not(file: Sniffed, leaf: Sniffed | None, authority: Sniffed | None) -> str:
    for used in (leaf, authority):
        if used is not None and _first_of(file) == _first_of(used):
            return f"is the same certificate as {used.path.name}"
    if leaf is None or leaf.info is None or file.info is None:
        return "is another certificate"
    if file.info.subject == leaf.info.issuer and leaf.info.count == 1:
        return f"issued {leaf.path.name}; append it there if the other side does not have it"
    return "is another certificate"


def _first_of(file: Sniffed) -> x509.Certificate | None:
    return file.contents.certificates[0] if file.contents and file.contents.certificates else None


def _print_of(file: Sniffed) -> str:
    return file.info.public_key_sha256 if file.info else ""


def _distinct(files: Sequence[Sniffed]) -> list[Sniffed]:
    """Return one file per certificate: the one with its chain, in PEM."""
    best: dict[x509.Certificate, Sniffed] = {}
    for file in files:
        if file.contents is None:
            continue
        key = file.contents.certificates[0]
        kept = best.get(key)
        if kept is None or _rank(file) > _rank(kept):
            best[key] = file
    return list(best.values())


def _rank(file: Sniffed) -> tuple[int, bool]:
    return (file.info.count, file.info.format == "pem") if file.info else (0, False)


def _chosen(path: Path, folder: Path, files: Iterable[Sniffed], option: str) -> Sniffed:
    wanted = path if path.exists() else folder / path
    for file in files:
        if wanted.exists() and file.path.samefile(wanted):
            return file
    hint = "give one of the folder's certificates"
    raise InputError(f"{option} {path}: is no certificate in the folder", hint)


def _ambiguous(folder: Path, files: Sequence[Sniffed], what: str, option: str, meant: str = "") -> InputError:
    shown = files[:_MAX_LISTED]
    lines = "".join(f"\n  {_name(each.path, folder)}: {_about(each.info)}" for each in shown if each.info)
    lines += f"\n  and {len(files) - len(shown)} more" if len(files) > len(shown) else ""
    message = f"{folder}: holds {len(files)} {what}, and it is not clear which is meant:{lines}"
    names = f"{option} names {meant}, such as" if meant else "this takes one:"
    return InputError(message, f"{names} {option} {shlex.quote(str(files[0].path))}")


def _about(info: PkiInfo) -> str:
    until = f", valid until {info.not_after:%Y-%m-%d}" if info.not_after else ""
    return f"{info.subject or '(no name)'}{until}"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _relative(file: Path, profile: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), profile.resolve().parent)).as_posix()
    except ValueError:  # on another drive
        return file.resolve().as_posix()


def _quoted(text: str) -> str:
    """Return a path as YAML takes it for text and nothing else."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!r}: a profile cannot hold this name", "rename the file") from None
    plain = text.replace("/", "").replace("_", "").replace(".", "").replace("-", "")
    if plain.isascii() and plain.isalnum() and text[0].isalpha() and "." in text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
