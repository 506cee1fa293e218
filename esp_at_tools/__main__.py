"""``python -m esp_at_tools`` is the same program as ``esp-at-tool``."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Start the program; until it can say so itself, Ctrl-C just ends it."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from esp_at_tools.cli.main import main as program

    if previous is not None:
        signal.signal(signal.SIGINT, previous)
    program()


if __name__ == "__main__":
    main()
