"""``menuconfig``: change options of a module in ESP-IDF's menu, and keep them in the checkout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esp_at_tools.cli.common import current_output, is_terminal, talk_options
from esp_at_tools.cli.sdkconfig import checkout_options, open_module, print_table
from esp_at_tools.errors import InputError


@click.command("menuconfig", short_help="Change options of a module in ESP-IDF's menu, and keep them.")
@checkout_options
@talk_options
def command(project: Path, folder: Path | None, idf: Path | None, name: str | None, silence: bool) -> None:
    """Change options of a module of a checkout in ESP-IDF's menu.

    What differs from the module's defaults is kept in sdkconfig.overlay/CHIP-MODULE.defaults in the checkout;
    sdkconfig resolve and build read it again. An option that is set back to its default leaves that file.
    ESP-IDF need not be installed.
    """
    from esp_at_tools.kconfig.menuconfig import edit

    talk = current_output()
    module = open_module(project, folder, idf, name, silence=silence)
    if not is_terminal(sys.stdin) or not is_terminal(sys.stdout):
        raise InputError(
            "menuconfig needs a terminal",
            f"run it in one, or write CONFIG_NAME=value lines into {module.overlay} yourself",
        )
    edited = edit(module.tree, module.defaults, module.overlay, module.name, environment=module.environment)
    for warning in (*module.warnings, *edited.warnings):
        talk.warn(warning)
    if not edited.saved:
        talk.result("Nothing was saved: no option has changed.")
        return
    if not talk.quiet:
        print_table(list(edited.changes), "Before", "Now")
    count = len(edited.overlay)
    if count:
        what = "1 option differs" if count == 1 else f"{count} options differ"
        talk.result(f"{module.overlay}: {what} from the defaults of {module.name}")
    else:
        talk.result(f"{module.overlay}: removed, since nothing differs from the defaults of {module.name}")
