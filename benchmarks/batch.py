"""Speed and memory of ``batch``, as ratios to the public generator's in the same run.

    python benchmarks/batch.py [--quick] [--devices N] [--json] [--folder DIR]

The content is a product's: 12 certificates and keys of 1.2 to 1.7 KB, 13 settings, 31 GATT rows; of each
device two certificates and a key are its own. Nothing here passes or fails, except that all outputs
must have the generator's bytes.

What the disk and the memory of a machine do changes these figures more than anything else, so the public
generator and the bare loop are timed right before and after each run, and both runs write to folders of
their own. On ext4, do not delete many files in the minutes before: it looks at each of those again when
a file is made, which takes longer than all the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime as dt
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import builders  # noqa: E402 - the tests' builders, found by the line above
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402
from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # noqa: E402

from esp_at_tools.batch.flush import Flusher  # noqa: E402
from esp_at_tools.batch.job import Job  # noqa: E402
from esp_at_tools.batch.maker import Maker  # noqa: E402

SETS = ("server", "client.0", "client.1", "mqtt")
OWN = ("client_cert.0", "client_key.0", "client_cert.1")
IDENTITIES = 192
KEYS = 24


def item(role: str, part: str) -> str:
    """The name of an item of a set: ``client.0``, ``cert`` → ``client_cert.0``."""
    name, dot, number = role.partition(".")
    return f"{name}_{part}{dot}{number}"


def make_key() -> Any:
    return rsa.generate_private_key(65537, 2048)


def pem_of(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(key: Any, name: str, signer: Any, *, ca: bool = False) -> bytes:
    """A certificate of about 1.2 to 1.5 KB."""

    def names(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A maker of many devices"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    now = dt.datetime.now(dt.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(names(name))
        .issuer_name(names("The maker's CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


class Content:
    """A firmware's partition, a list of devices and their files, in a folder."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        signer, shared = make_key(), make_key()
        self.items: dict[str, bytes] = {}
        for role in SETS:
            self.items[item(role, "ca")] = certificate(signer, "The maker's CA", signer, ca=True)
            self.items[item(role, "cert")] = certificate(shared, f"everybody's {role}", signer)
            self.items[item(role, "key")] = pem_of(shared)
        (folder / "keys").mkdir(parents=True)
        keys = [make_key() for _ in range(KEYS)]
        self.own: list[dict[str, bytes]] = []
        for number in range(IDENTITIES):
            key = keys[number % KEYS]
            mine = (certificate(key, f"device {number}", signer), pem_of(key),
                    certificate(shared, f"device {number}, second", signer))  # fmt: skip
            self.own.append(dict(zip(OWN, mine, strict=True)))
            for name, data in self.own[-1].items():
                (folder / "keys" / f"{number}.{name}.pem").write_bytes(data)
        self.input = folder / "mfg_nvs.bin"
        self.input.write_bytes(self.public(0, own=False))
        self.devices = folder / "devices.csv"
        with self.devices.open("w", encoding="utf-8") as stream:
            stream.write(",".join(("id", "mac", *OWN)) + "\n")
            for number in range(devices):
                mac = (0xC40A24000000 + number).to_bytes(6, "big").hex(":")
                files = ",".join(f"keys/{number % IDENTITIES}.{name}.pem" for name in OWN)
                stream.write(f"device-{number:07},{mac},{files}\n")

    def rows(self, number: int, *, own: bool = True) -> Iterator[tuple[str, str, str, str]]:
        """The rows of the generator's CSV for one device."""
        values = {**self.items, **(self.own[number % IDENTITIES] if own else {})}
        reader = csv.reader(builders.mfg_csv().splitlines()[1:])
        yield from ((key, kind, encoding, value) for key, kind, encoding, value in reader)
        yield "ble_data", "namespace", "", ""
        for row in range(31):
            yield f"cfg{row}", "data", "string", f"{row},16,0x2803,0x01,1,1,02"
        groups = dict.fromkeys(name.split(".")[0] for name in values)
        for group in groups:
            yield group, "namespace", "", ""
            for name, data in values.items():
                if name.split(".")[0] == group:
                    yield name, "data", "hex2bin", data.hex()

    def public(self, number: int, *, own: bool = True) -> bytes:
        """A device's partition as the public generator makes it."""
        buffer = io.BytesIO()
        with generator.nvs_open(buffer, builders.MFG_SIZE - 4096, generator.Page.VERSION2) as nvs:
            for row in self.rows(number, own=own):
                generator.write_entry(nvs, *row)
        return buffer.getvalue()

    def row(self, number: int) -> dict[str, str]:
        """A device's row as ``batch`` reads it."""
        return {name: f"keys/{number % IDENTITIES}.{name}.pem" for name in OWN}


def average(action: Callable[[int], Any], seconds: float) -> tuple[float, float]:
    """How often an action is done in a second, and the processor time of each, over a while."""
    count, start, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        action(count)
        count += 1
    return count / (time.perf_counter() - start), (time.process_time() - used) / count


def per_second(action: Callable[[int], Any], rounds: int, count: int) -> float:
    """How often an action can be done in a second: the best of several rounds."""
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        for number in range(count):
            action(number)
        best = max(best, count / (time.perf_counter() - start))
    return best


def bare(folder: Path, data: bytes, count: int, group: int = 64) -> float:
    """Files per second of a loop that does what no program can leave out: write, hash, flush, rename.

    It flushes as ``batch`` does, in groups, but has nothing else to do meanwhile.
    """
    folder.mkdir()
    with contextlib.closing(Flusher(folder)) as flusher:
        start = time.perf_counter()
        for first in range(0, count, group):
            paths = [f"{folder}/{number}.tmp" for number in range(first, min(first + group, count))]
            for path in paths:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(descriptor, data)
                os.close(descriptor)
                hashlib.sha256(data).hexdigest()
            flusher.flush(paths)
            for path in paths:
                os.replace(path, path.removesuffix(".tmp") + ".bin")  # noqa: PTH105 - no slower than need be
        return count / (time.perf_counter() - start)


def family(process: int) -> list[int]:
    """A process and those that it has started."""
    found = [process]
    for each in found:
        with open(f"/proc/{each}/task/{each}/children", encoding="ascii") as stream:  # noqa: PTH123
            found += [int(word) for word in stream.read().split()]
    return found


def memory(process: int) -> int:
    """Proportional memory of a process and its children in KiB: what they share counts once."""
    total = 0
    for each in family(process):
        with open(f"/proc/{each}/smaps_rollup", encoding="ascii") as stream:  # noqa: PTH123
            total += next(int(line.split()[1]) for line in stream if line.startswith("Pss:"))
    return total


def run_command(content: Content, output: Path, processes: int) -> tuple[float, float, float]:
    """Seconds that the command takes, its processor time, and its peak memory in MiB (0 without /proc).

    Both of the latter are of all its processes, and the time is that of their start too.
    """
    command = [sys.executable, "-m", "esp_at_tools", "batch", "-q", "--input", content.input, "--devices",
               content.devices, "--output", output, "-j", processes]  # fmt: skip
    before = os.times()
    start = time.perf_counter()
    peaks = [0]
    with subprocess.Popen(list(map(str, command))) as running:

        def watch() -> None:
            while running.poll() is None:
                with contextlib.suppress(OSError, StopIteration):  # it has ended meanwhile
                    peaks.append(memory(running.pid))
                time.sleep(0.2)

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = running.wait()
        seconds = time.perf_counter() - start
        watcher.join()
    if status:
        raise SystemExit(f"batch ended with {status}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used, max(peaks) / 1024


def measure(folder: Path, devices: int, rounds: int) -> dict[str, Any]:
    """All figures."""
    content = Content(folder, devices)
    maker = Maker(Job(content.input, folder, folder, dt.datetime.now(dt.timezone.utc), ("mfg_nvs",)))

    def ours(number: int) -> bytes:
        return b"".join(maker.make(content.row(number)).outputs["mfg_nvs"])

    for number in range(IDENTITIES):
        assert ours(number) == content.public(number)  # noqa: S101 - else it is no race
    templates = maker._templates  # noqa: SLF001 - the innermost part, raced alone
    shape = next(iter(templates))
    values = list(content.own[0].values())

    def rendered(number: int) -> bytes:
        del number
        return templates[shape].render(values)

    figures: dict[str, Any] = {}
    public = per_second(content.public, rounds * 8, 12)
    figures["partitions per second, public generator in process"] = public
    figures["in process, laid out alone / public generator"] = per_second(rendered, rounds * 8, 200) / public
    figures["in process, files read and checked too / public generator"] = (
        per_second(ours, rounds * 8, 48) / public
    )
    data = content.public(0)
    loops = 0

    def around() -> tuple[float, float, float]:
        """The generator's rate and its processor time for each, and the bare loop's rate."""
        nonlocal loops
        loops += 1
        return (*average(content.public, 0.4 * rounds), bare(folder / f"bare{loops}", data, devices // 8))

    for processes in (1, 2):
        output = folder / f"out{processes}"
        before = around()
        seconds, used, peak = run_command(content, output, processes)
        public, busy, loop = (sum(each) / 2 for each in zip(before, around(), strict=True))
        command, rate = f"whole command, -j {processes}", devices / seconds
        figures[f"bare loop around -j {processes} / public generator"] = loop / public
        figures[f"{command}, devices per second"] = rate
        figures[f"{command} / public generator around it"] = rate / public
        figures[f"{command} / bare loop around it"] = rate / loop
        figures[f"{command}, processor time: public generator / ours"] = busy / (used / devices)
        figures[f"{command}, peak memory of all processes in MiB"] = peak
    for number in range(min(devices, IDENTITIES)):
        for processes in (1, 2):
            made = (folder / f"out{processes}" / f"device-{number:07}.bin").read_bytes()
            assert made == content.public(number)  # noqa: S101 - as above
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few devices, to see that it works")
    parser.add_argument("--devices", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write; on the disk that shall be measured")
    options = parser.parse_args()
    devices, rounds = (256, 1) if options.quick else (options.devices, 5)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder) / "batch", devices, rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{value:10.2f}  {name}")


if __name__ == "__main__":
    main()
