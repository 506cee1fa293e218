"""``pki``: check, generate and import certificates and private keys."""

from __future__ import annotations

import click

from esp_at_tools.cli.common import talk_options
from esp_at_tools.cli.pki_check import check
from esp_at_tools.cli.pki_generate import generate
from esp_at_tools.cli.pki_import import import_


@click.group("pki", short_help="Check, generate and import certificates and private keys.")
@talk_options
def command() -> None:
    """Check, generate and import certificates and private keys. No byte of a private key is ever shown."""


command.add_command(check)
command.add_command(generate)
command.add_command(import_)
