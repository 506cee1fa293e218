"""The work that at.py does on a modern image, done by the public generator: the yardstick.

Generates ``mfg_nvs`` anew from a CSV with one value changed, and puts it into the image. at.py dumps
the CSV from the image first; that part is left out here, which makes the yardstick faster.

    python reference_modify.py IMAGE CSV OFFSET SIZE OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from esp_idf_nvs_partition_gen import nvs_partition_gen as generator


def main() -> None:
    image, table, offset, size, output = sys.argv[1:]
    data = bytearray(Path(image).read_bytes())
    text = Path(table).read_text("utf-8").replace("115200", "921600")
    changed = Path(output).with_suffix(".csv")
    changed.write_text(text, "utf-8")
    partition = Path(output).with_suffix(".nvs.bin")
    generator.log.set_verbosity("silent")
    generator.generate(
        SimpleNamespace(
            input=str(changed), output=str(partition), size=size, version=2, outdir=str(partition.parent)
        )
    )
    start = int(offset, 0)
    data[start : start + int(size, 0)] = partition.read_bytes()
    Path(output).write_bytes(data)


if __name__ == "__main__":
    main()
