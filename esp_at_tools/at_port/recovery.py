"""What a partition is to hold, kept on this computer while it is erased and written on the module.

AT+SYSFLASH can only replace a whole partition. When the module loses power between erasing and writing,
what it held is nowhere else: the next run finds it here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from esp_at_tools import files
from esp_at_tools.at_port.client import AtClient, AtError

_MAC = re.compile(r'"((?:[0-9a-f]{2}:){5}[0-9a-f]{2})"', re.IGNORECASE)
_UNSAFE = re.compile(r"[^0-9A-Za-z_-]+")


def state_folder() -> Path:
    """Return the folder for what outlives a run, where the system has such things."""
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        if os.environ.get(name):
            return Path(os.environ[name]) / "esp-at-tool"
    return Path.home() / ".local" / "state" / "esp-at-tool"


def identity(client: AtClient) -> str:
    """Return a name for the module: its MAC address, else its port's name."""
    try:
        lines = client.command("AT+CIPSTAMAC?").of("CIPSTAMAC")
    except AtError:  # a firmware without Wi-Fi commands
        lines = []
    match = next((match for match in map(_MAC.search, lines) if match), None)
    return _UNSAFE.sub("-", match[1].lower() if match else client.port).strip("-")


class Recovery:
    """The copies for one module.

    Args:
        name: the module, see :func:`identity`.
    """

    def __init__(self, name: str) -> None:
        """Nothing is written before it is needed."""
        self.folder = state_folder() / "recovery" / name

    def pending(self) -> Mapping[str, bytes]:
        """Return name → contents of the partitions whose writing has not ended."""
        found = sorted(self.folder.glob("*.bin")) if self.folder.is_dir() else []
        return {path.stem: files.read_file(path, "partition") for path in found}

    @contextlib.contextmanager
    def keep(self, partition: str, data: bytes) -> Iterator[None]:
        """Keep a copy until the block has ended without an error.

        Raises:
            InputError: it cannot be written; nothing has been done to the module then.
        """
        path = self.folder / f"{partition}.bin"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise files.unreadable(self.folder, error, "folder") from error
        files.write_file(path, data, private=True)
        yield
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another partition of it may be pending
            self.folder.rmdir()
