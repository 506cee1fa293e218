"""One firmware for each module: which of a folder's images a module gets, and a ledger that remembers it.

An image that was given to a module is never given to another, also when its writing failed or was
interrupted: nobody knows how much of it arrived. The same module gets the same image again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from esp_at_tools import files
from esp_at_tools.batch.folder import LEDGER, manifests
from esp_at_tools.batch.ledger import Line, State, given, read_lines
from esp_at_tools.batch.manifest import read_manifest
from esp_at_tools.device.plan import FlashPlan, make_plan
from esp_at_tools.errors import DeviceError, InputError
from esp_at_tools.firmware.firmware import Firmware

SUFFIXES = (".bin", ".zip")


@dataclass(frozen=True)
class DeviceImage:
    """An image for one module.

    Attributes:
        file: its path relative to the folder, ``/`` between the parts.
        sha256: what it must be, ``""`` where no manifest says.
        mac: the module that it is for, ``aa:bb:cc:dd:ee:ff``; ``""`` for any.
    """

    file: str
    sha256: str = ""
    mac: str = ""


def device_images(folder: Path) -> tuple[DeviceImage, ...]:
    """Return the images in a folder: those of the manifests of a batch, else every ``.bin`` and ``.zip``.

    Raises:
        InputError: there is none, or the folder cannot be read.
        FormatError: a manifest is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "give the folder that 'esp-at-tool batch' has written")
    found = [
        DeviceImage(entry.file, entry.sha256, entry.mac)
        for manifest in manifests(folder)
        for _, entry in read_manifest(manifest)
        if entry.ok
    ]
    if not found and not manifests(folder):
        names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
        found = [DeviceImage(name) for name in names if not files.is_temporary(name)]
    if not found:
        raise InputError(
            f"{folder}: holds no image for a module",
            "give the folder that 'esp-at-tool batch' has written, or one with a .bin for each module",
        )
    return tuple(dict.fromkeys(found))


@dataclass
class Allotment:
    """A folder of images, and what became of them.

    Attributes:
        folder: the folder.
        only: partitions that are written, all if none.
        erase: whether each module is erased first.
        ledger: the file that remembers who got what.
    """

    folder: Path
    only: tuple[str, ...] = ()
    erase: bool = False
    ledger: Path = field(default=Path())

    def __post_init__(self) -> None:
        """Take the usual ledger if none is named."""
        if self.ledger == Path():
            self.ledger = self.folder / LEDGER

    def plan_for(self, mac: str, port: str) -> FlashPlan:
        """Choose the image of a module, write that down, and return what is to be flashed.

        Raises:
            DeviceError: no image is left, or the module does not tell its MAC address.
            InputError: the image is damaged, or not that of the manifest.
        """
        if not mac:
            raise DeviceError(f"{port}: does not tell its MAC address", "so no image can be kept for it")
        with self._locked() as stream:
            image = self._choose(mac, port, given(_lines(self.ledger, stream)))
            plan = self._plan(image)
            _append(stream, Line(mac, image.file, "given", plan.sha256, port, _now()))
        return plan

    def finished(self, mac: str, plan: FlashPlan, port: str, state: State) -> None:
        """Write down how it went; an image that was written once stays with its module."""
        file = plan.path.relative_to(self.folder).as_posix()
        with self._locked() as stream:
            before = [line.state for line in _lines(self.ledger, stream) if line.file == file]
            if state == "returned" and {"done", "failed"} & set(before):
                state = "failed"
            _append(stream, Line(mac, file, state, plan.sha256, port, _now()))

    def count(self) -> Mapping[str, int]:
        """Return how many images there are, how many are given to modules, written, and left."""
        images = device_images(self.folder)
        taken = self._taken()
        done = sum(line.state == "done" for line in taken.values())
        return {"images": len(images), "given": len(taken), "done": done, "left": len(images) - len(taken)}

    def missing(self) -> list[str]:
        """Return the images that a manifest names, that are not there, and that no module has yet."""
        done = {file for file, line in self._taken().items() if line.state == "done"}
        names = (image.file for image in device_images(self.folder))
        return [name for name in names if name not in done and not (self.folder / name).is_file()]

    def _taken(self) -> dict[str, Line]:
        """Return what belongs to modules; the ledger is made for the first of them, not for a look."""
        if not self.ledger.exists():
            return {}
        with self._locked() as stream:
            return given(_lines(self.ledger, stream))

    def _choose(self, mac: str, port: str, taken: Mapping[str, Line]) -> DeviceImage:
        images = device_images(self.folder)
        by_file = {image.file: image for image in images}
        own = next((line.file for line in taken.values() if line.mac == mac), "")
        if own:
            if own not in by_file:
                raise DeviceError(
                    f"{port}: module {mac} has {own}, which is no longer in {self.folder}",
                    f"put it back, or remove the module's lines from {self.ledger}",
                )
            return by_file[own]
        for wanted in (mac, ""):
            for image in images:
                if image.file not in taken and image.mac == wanted:
                    return image
        left = sum(image.file not in taken for image in images)
        why = f"{left} are left, each for another module" if left else f"all {len(images)} are used"
        raise DeviceError(
            f"{port}: {self.folder} has no image for module {mac}: {why}",
            f"see {self.ledger}; make more images",
        )

    def _plan(self, image: DeviceImage) -> FlashPlan:
        path = self.folder / image.file
        plan = make_plan(Firmware.open(path), only=self.only, erase=self.erase)
        if image.sha256 and plan.sha256 != image.sha256:
            raise InputError(
                f"{path}: is not the file that the manifest names: its SHA-256 is another",
                "'esp-at-tool batch verify' shows what else has changed; make it again",
            )
        return plan

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Open the ledger for one process alone."""
        try:
            stream = self.ledger.open("a+b")
        except OSError as error:
            raise InputError(
                f"{self.ledger}: cannot be written: {error.strerror}", "name another with --ledger"
            ) from error
        with stream:
            _lock(stream)
            yield stream


def _lock(stream: IO[bytes]) -> None:
    """Wait until no other process has the ledger; closing it gives it free."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX)
        return
    import msvcrt  # pragma: no cover - Windows

    stream.seek(0)
    msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]


def _lines(path: Path, stream: IO[bytes]) -> list[Line]:
    """Read the ledger; a last line that was cut off is removed, for nothing was done after it."""
    stream.seek(0)
    data = stream.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        stream.truncate(whole)
    return read_lines(path, data)


def _append(stream: IO[bytes], line: Line) -> None:
    stream.seek(0, os.SEEK_END)
    stream.write(json.dumps(asdict(line)).encode() + b"\n")
    stream.flush()
    os.fsync(stream.fileno())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
