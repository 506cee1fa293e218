"""Which module of a checkout is compiled: named, prepared already, or asked for on the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from esp_at_tools.cli.module_choice import chosen_module
from esp_at_tools.errors import InputError
from esp_at_tools.workspace.checkout import Checkout, CheckoutModule


@dataclass(frozen=True)
class Chosen:
    """A module and its variant."""

    module: CheckoutModule
    silence: bool


def choose(checkout: Checkout, name: str, platform: str = "", *, silence: bool) -> Chosen:
    """Return the module that is named, else the one for which the checkout is prepared, else ask.

    Args:
        checkout: the checkout.
        name: ``ESP32C3/MINI-1``, or ``MINI-1`` beside a platform; ``""`` for none.
        platform: ``ESP32C3`` or ``PLATFORM_ESP32C3``; ``""`` for none.
        silence: ``--silence`` was given.

    Raises:
        InputError: there is no such module; or none is named, and there is no terminal to ask on.
        FormatError: ``build/module_info.json`` is wrong, and no module is named.
    """
    chip = platform.upper().removeprefix("PLATFORM_")
    if chip and not name:
        raise _which(checkout, platform, chip)
    full = f"{chip}/{name}" if chip and "/" not in name else name
    found, silence = chosen_module(checkout.root, full or None, silence=silence)
    module = checkout.module(found)
    if chip and module.chip_name != chip:
        raise InputError(
            f"--platform {platform}: {module.full_name} is of {module.chip_name}", "leave --platform out"
        )
    return Chosen(module, silence)


def _which(checkout: Checkout, platform: str, chip: str) -> InputError:
    known = [module for module in checkout.modules() if module.target in checkout.targets()]
    names = [module.name for module in known if module.chip_name == chip]
    if names:
        return InputError(
            f"--platform {platform}: for which module? --module is missing",
            f"it is one of {', '.join(names)}",
        )
    chips = dict.fromkeys(module.chip_name for module in known)
    return InputError(f"--platform {platform}: is no platform of this checkout", f"it has {', '.join(chips)}")
