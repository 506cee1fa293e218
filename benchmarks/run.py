"""Time and memory of the program, as ratios to public tools measured in the same run.

    python benchmarks/run.py [--quick] [--json] [--at-py FILE]

Nothing here passes or fails: numbers depend on the machine and on what else it does, ratios less so.
Each figure is the best of several runs, taken in turn.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import builders  # noqa: E402 - the tests' builders, found by the line above
from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # noqa: E402

from esp_at_tools.formats.nvs import NvsPartition  # noqa: E402

CERTIFICATE_SIZES = (1200, 1300, 1400, 1500, 1600, 1700)


def best(actions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Best time of each action in seconds; the actions take turns, so that they suffer the same noise."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def process(*args: object, cwd: Path) -> Callable[[], Any]:
    """An action that runs Python with these arguments."""
    command = [sys.executable, *map(str, args)]
    return lambda: subprocess.run(
        command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def peak_memory(*args: object, cwd: Path) -> int:
    """Peak resident memory of a Python process, in KiB; 0 where the system does not tell (no /proc)."""
    if not Path("/proc/self/status").exists():
        return 0
    # VmHWM, because ru_maxrss starts with what the parent had.
    watch = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\nexcept SystemExit: pass\nprint([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1], file=sys.stderr)"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", watch, *map(str, args)], cwd=cwd, check=True, capture_output=True, text=True
    )
    return int(done.stderr.split()[-1])


def full_csv() -> str:
    """A partition like a product's: 12 certificates and keys, 13 settings, 31 GATT rows."""
    rows = []
    for number in range(12):
        size = CERTIFICATE_SIZES[number % len(CERTIFICATE_SIZES)]
        rows += [f"pki{number},namespace,,", f"pki{number},data,hex2bin,{bytes([number]).hex() * size}"]
    rows.append("ble_data,namespace,,")
    rows += [f'cfg{n},data,string,"{n},16,0x2803,0x01,1,1,02"' for n in range(31)]
    return builders.mfg_csv("\n".join(rows) + "\n")


def public_generation(text: str) -> bytes:
    """The partition as the public generator makes it, in this process."""
    buffer = io.BytesIO()
    with generator.nvs_open(buffer, builders.MFG_SIZE - 4096, generator.Page.VERSION2) as nvs:
        for row in csv.DictReader(text.splitlines()):
            generator.write_entry(nvs, row["key"], row["type"], row["encoding"], row["value"])
    return buffer.getvalue()


def measure(folder: Path, rounds: int, at_py: Path | None) -> dict[str, Any]:
    """All figures."""
    text = full_csv()
    partition = public_generation(text)
    assert NvsPartition.from_csv(text, builders.MFG_SIZE).to_bytes() == partition  # noqa: S101 - else it is no race
    (folder / "mfg.csv").write_text(text)
    (folder / "image.bin").write_bytes(builders.image(partition))
    (folder / "image16.bin").write_bytes(builders.image(partition) + b"\xff" * (12 << 20))
    modify = ("-m", "esp_at_tools", "modify-bin", "--baud", "921600", "--output", "ours.bin", "--input")
    reference = (
        HERE / "reference_modify.py",
        "image.bin",
        "mfg.csv",
        builders.MFG_OFFSET,
        builders.MFG_SIZE,
        "theirs.bin",
    )
    times = best(
        {
            "python -c 'import click'": process("-c", "import click", cwd=folder),
            "esp-at-tool --version": process("-m", "esp_at_tools", "--version", cwd=folder),
            "modify-bin": process(*modify, "image.bin", cwd=folder),
            "at.py's work": process(*reference, cwd=folder),
            "at.py": process(
                "-W", "ignore", at_py, "modify_bin", "--baud", "921600", "--input", "image.bin", cwd=folder
            )
            if at_py
            else lambda: None,
        },
        rounds,
    )
    assert (folder / "ours.bin").read_bytes() == (folder / "theirs.bin").read_bytes()  # noqa: S101 - as above
    inside = best(
        {
            "generate": lambda: NvsPartition.from_csv(text, builders.MFG_SIZE).to_bytes(),
            "public generate": lambda: public_generation(text),
            "read": lambda: NvsPartition.from_bytes(partition),
        },
        rounds * 3,
    )
    click, start, ours, theirs, at_py_time = times.values()
    return {
        **({"modify-bin, 4 MB: at.py itself / ours": at_py_time / ours} if at_py else {}),
        "start-up: esp-at-tool --version / import click": start / click,
        "start-up in ms": start * 1e3,
        "modify-bin, 4 MB: the public generator and a copy of the image alone / ours": theirs / ours,
        "modify-bin, 4 MB, in ms": ours * 1e3,
        "modify-bin, 4 MB / import click": ours / click,
        "memory of modify-bin, 4 MB image, in MiB": peak_memory(*modify[1:], "image.bin", cwd=folder) / 1024,
        "memory of modify-bin, 16 MB image, in MiB": peak_memory(*modify[1:], "image16.bin", cwd=folder)
        / 1024,
        "NVS partitions generated per second": 1 / inside["generate"],
        "NVS generation: public generator / ours": inside["public generate"] / inside["generate"],
        "NVS partitions read per second": 1 / inside["read"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--at-py", type=Path, metavar="FILE", help="at.py of an esp-at checkout, to race it too"
    )
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), 2 if options.quick else 15, options.at_py and options.at_py.resolve())
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{value:10.2f}  {name}")


if __name__ == "__main__":
    main()
