"""``component``: make an ESP-IDF component with an AT command of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from esp_at_tools.cli.common import PATH, current_output, json_option, talk_options


@click.group("component", short_help="Make a component with an AT command of your own.")
@talk_options
def command() -> None:
    """Make components that add AT commands to the firmware."""


@command.command("new", short_help="Write a working component with one command.")
@click.argument("name")
@click.option(
    "--command", "at_command", metavar="AT+XXX",
    help="The command that it adds.  [default: AT+ and NAME in capitals]",
)  # fmt: skip
@click.option(
    "--project", type=PATH, metavar="DIR", help="The esp-at checkout.  [default: the current folder]"
)
@click.option(
    "--dir", "folder", type=PATH, metavar="DIR",
    help="The folder in which the folder NAME is made.  [default: components in the checkout]",
)  # fmt: skip
@json_option
@talk_options
def new(name: str, at_command: str | None, project: Path | None, folder: Path | None) -> None:
    """Write a working component with one AT command, for the version of esp-at at hand.

    The build takes in what is in components/ of the checkout by itself. What the command does stands in one
    function, NAME_run() in NAME.c.
    """
    from esp_at_tools.build.tree import is_source_tree
    from esp_at_tools.workspace.component import new_component, write_component

    if project is None and (folder is None or is_source_tree(Path())):
        project = Path()
    made = new_component(name, command=at_command, project=project, parent=folder)
    write_component(made)
    talk = current_output()
    if talk.json:
        talk.document(
            {
                "name": made.name,
                "command": made.command,
                "folder": str(made.folder),
                "files": sorted(made.files),
                "found_by_build": made.inside,
            }
        )
        return
    talk.result(f"{made.folder}: {made.command}")
    for file in sorted(made.files):
        talk.result(f"  {file}")
    talk.result(f"What {made.command} does is {made.name}_run() in {made.folder / f'{made.name}.c'}.")
    if made.inside:
        talk.result("The next build has it.")
    elif not made.variable:
        talk.result("To have it in a build, copy it into components of the checkout.")
    else:
        talk.result(f"To have it in a build, set AT_CUSTOM_COMPONENTS={made.folder.resolve()}")
