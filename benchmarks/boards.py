"""How much longer eight modules take than one, flashed side by side over simulated wires.

    python benchmarks/boards.py [--boards N] [--size KB] [--json]

Each module is a process of its own, and its bytes take as long as on a real wire at 460800 baud; so the
ratio shows what this computer and the program add. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import builders  # noqa: E402 - the tests' builders, found by the line above


def image(folder: Path, kilobytes: int) -> Path:
    """A firmware whose application is so large, and does not compress."""
    data = bytearray(builders.image())
    app = builders.parts()
    start = max(offset for offset, (name, _) in app.items() if name.startswith("esp-at"))
    noise = random.Random(1).randbytes(kilobytes << 10)
    data[start + 0x10000 : start + 0x10000 + len(noise)] = noise
    path = folder / "factory.bin"
    path.write_bytes(data)
    return path


def flash(firmware: Path, folder: Path, count: int) -> float:
    """Flash so many modules and return the seconds that it took."""
    simulator = HERE.parent / "tests" / "rom_simulator.py"
    boards = []
    for number in range(count):
        path = folder / f"flash-{count}-{number}.bin"
        command = [sys.executable, str(simulator), "--flash", str(path), "--timed"]
        boards.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent / "tests"))
    ports = []
    for each in boards:
        ports += ["-p", each.stdout.readline().strip() if each.stdout else ""]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "esp_at_tools", "-q", "flash", str(firmware), *ports], check=True)
    seconds = time.perf_counter() - start
    for each in boards:
        each.terminate()
        each.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--size", type=int, default=512, help="KB of the application")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        firmware = image(folder, options.size)
        one = flash(firmware, folder, 1)
        several = flash(firmware, folder, options.boards)
    result = {"boards": options.boards, "one_s": round(one, 2), "all_s": round(several, 2),
              "ratio": round(several / one, 2)}  # fmt: skip
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"one module {one:.1f} s, {options.boards} side by side {several:.1f} s")
        print(f"ratio {several / one:.2f}")


if __name__ == "__main__":
    main()
