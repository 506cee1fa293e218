"""``ci``: make a workflow that builds modules on the runners of GitHub or GitLab."""

from __future__ import annotations

from pathlib import Path

import click

from esp_at_tools.cli.common import PATH, current_output, json_option, talk_options

_PROVIDERS = ("github", "gitlab")  # workspace/ci.py has them too; it is loaded when it is used


@click.group("ci", short_help="Build modules on the runners of GitHub or GitLab.")
@talk_options
def command() -> None:
    """Build modules on the runners of GitHub or GitLab."""


@command.command("init", short_help="Write a workflow that builds modules and keeps their firmware.")
@click.option("--provider", type=click.Choice(_PROVIDERS), required=True, help="Whose runners build.")
@click.option(
    "--module", "-m", "names", multiple=True, metavar="NAME",
    help="A module to build: ESP32C3/MINI-1.  [default: all of them]",
)  # fmt: skip
@click.option(
    "--project", type=PATH, metavar="DIR", help="The esp-at checkout.  [default: the current folder]"
)
@click.option(
    "--output", "-o", type=PATH, metavar="FILE",
    help="The workflow.  [default: where the provider looks for it in the checkout]",
)  # fmt: skip
@click.option("--config-only", is_flag=True, help="The configuration alone, without ESP-IDF: in seconds.")
@click.option(
    "--install", "requirement", metavar="SPEC",
    help="What pip installs on a runner: a name, version, path or address.  [default: esp-at-tool]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a workflow that exists.")
@json_option
@talk_options
def init(
    provider: str,
    names: tuple[str, ...],
    project: Path | None,
    output: Path | None,
    config_only: bool,
    requirement: str | None,
    force: bool,
) -> None:
    """Write a workflow that builds modules, each on a runner of its own, and keeps their firmware.

    It installs this program, and ESP-IDF with its tools, which are kept in the provider's cache until their
    pinned commit changes; passes on the secrets that hold OTA tokens; and checks every factory image.
    """
    from esp_at_tools.workspace.ci import PACKAGE, new_workflow, write_workflow

    workflow = new_workflow(
        provider,
        project if project is not None else Path(),
        names,
        config_only=config_only,
        requirement=requirement if requirement is not None else PACKAGE,
        output=output,
    )
    write_workflow(workflow, force=force)
    talk = current_output()
    if talk.json:
        talk.document(
            {
                "provider": workflow.provider,
                "path": str(workflow.path),
                "config_only": config_only,
                "modules": list(workflow.modules),
                "secrets": list(workflow.tokens),
            }
        )
        return
    talk.result(f"{workflow.path}: builds {', '.join(workflow.modules)}")
    if workflow.tokens:
        talk.result(
            f"OTA tokens are taken from these secrets, if there are any: {', '.join(workflow.tokens)}"
        )
