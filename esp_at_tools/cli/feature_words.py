"""``--feature`` of the commands that decide what is in a firmware: it takes all the words that follow it."""

from __future__ import annotations

import re

import click

FEATURE = "--feature"
_WORD = re.compile(r"[+-][a-z][a-z_][a-z0-9_]*(?:=\S*)?\Z|[a-z][a-z0-9_]*=\S*\Z")
"""A word that goes on with what a ``--feature`` began: it has a sign, or a state, and is no option."""

_WRITTEN = "esp_at_tools.arguments"

feature_option = click.option(
    FEATURE,
    "features",
    multiple=True,
    metavar="+NAME -NAME NAME=STATE …",
    help="Features that are on, off, or in a state; 'modules show' lists them. May be repeated.",
)


class FeatureCommand(click.Command):
    """A command whose ``--feature`` takes the words that follow it: ``--feature +fs -mdns``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each of those words a ``--feature`` of its own; keep what was written for :func:`written`."""
        ctx.meta[_WRITTEN] = tuple(args)
        return super().parse_args(ctx, list(_with_features(args)))


def written(context: click.Context) -> tuple[str, ...]:
    """Return the arguments of a :class:`FeatureCommand` as the user wrote them."""
    arguments: tuple[str, ...] = context.meta.get(_WRITTEN, ())
    return arguments


def _with_features(args: list[str]) -> list[str]:
    found: list[str] = []
    inside = False
    for number, arg in enumerate(args):
        if arg == "--":
            return [*found, *args[number:]]
        if arg == FEATURE:
            following = args[number + 1 : number + 2]
            if not following or following[0].startswith("--"):
                raise click.UsageError(
                    f"Option '{FEATURE}' requires an argument: +NAME, -NAME or NAME=STATE."
                )
            inside = bool(_WORD.match(following[0]))
            if not inside:
                found.append(arg)  # click takes what follows as its value
        elif inside and _WORD.match(arg):
            found.append(f"{FEATURE}={arg}")
        else:
            inside = arg.startswith(f"{FEATURE}=")
            found.append(arg)
    return found
