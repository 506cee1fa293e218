"""``python -m esp_at_tools`` is the same program as ``esp-at-tool``."""

from esp_at_tools.cli.main import main

if __name__ == "__main__":
    main()
