"""Changes to a module that no file holds yet: what a command line asks for, as its highest layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from esp_at_tools.catalog.factory_params import ModuleRow, Value
from esp_at_tools.catalog.features import OFF, ON, Feature
from esp_at_tools.catalog.module_yaml import Layer, Statements, unknown_hint
from esp_at_tools.errors import InputError
from esp_at_tools.formats.partition_table import PartitionTable

LAYER = "command line"
"""Name of the layer."""


@dataclass(frozen=True)
class Overlay:
    """What is laid over the layers of a module, below silence.

    Attributes:
        name: another name for the module, ``""`` to keep its own; its parameter ``module_name`` follows.
        description: another description, None to keep it.
        features: name → state; None takes the word of the lower layers back.
        options: option of the sdkconfig, without ``CONFIG_`` → value as there; None leaves it to Kconfig.
        parameters: name → value.
        flash: ``size``, ``mode``, ``freq`` → value as in a definition: ``8MB``.
        primary: a primary table instead of the one that the layers name.
        secondary: a secondary table likewise.
        primary_name: what to call that table.
        secondary_name: likewise.
    """

    name: str = ""
    description: str | None = None
    features: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, str | None] = field(default_factory=dict)
    parameters: Mapping[str, Value] = field(default_factory=dict)
    flash: Mapping[str, str] = field(default_factory=dict)
    primary: PartitionTable | None = None
    secondary: PartitionTable | None = None
    primary_name: str = LAYER
    secondary_name: str = LAYER

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return self == Overlay()

    def layer(self) -> Layer:
        """Return it as a layer; its tables are not in it."""
        values = {f"flash.{key}": value for key, value in self.flash.items()}
        if self.primary is not None:
            values["partitions.primary"] = self.primary_name
        if self.secondary is not None:
            values["partitions.secondary"] = self.secondary_name
        lines = dict.fromkeys((*self.features, *self.options), 1)
        return Layer(
            LAYER,
            Path(LAYER),
            values=values,
            normal=Statements(self.features, self.options, lines),
            lines=dict.fromkeys(values, 1),
        )

    def row(self, row: ModuleRow) -> ModuleRow:
        """Return the row of a module with its changes."""
        name = self.name or row.module_name
        own: dict[str, Value] = {"module_name": name} if "module_name" in row.parameters else {}
        return replace(
            row,
            module_name=name,
            description=row.description if self.description is None else self.description,
            parameters={**row.parameters, **self.parameters, **own},
        )


def parse_feature(word: str, features: Mapping[str, Feature], chip: str) -> tuple[str, str]:
    """Return the name and the state that a word asks for: ``+fs``, ``-mdns``, ``bluetooth_host=nimble``.

    Args:
        word: what was written.
        features: those that exist.
        chip: the chip that shall have it.

    Raises:
        InputError: no such feature, not on that chip, or not in that state; the hint names the nearest.
    """
    name, equals, state = word.strip().partition("=")
    sign, name = (name[0], name[1:]) if name[:1] in ("+", "-") else ("", name)
    feature = features.get(name)
    if feature is None:
        known = [each for each, its in features.items() if its.exists_on(chip)]
        raise InputError(
            f"--feature {word[:60]}: there is no such feature", unknown_hint(name, known, "features")
        )
    if not feature.exists_on(chip):
        raise InputError(
            f"--feature {word}: is not a feature of {chip}", f"it is one of {', '.join(feature.chips)}"
        )
    states = feature.state_names()
    if sign and equals:
        raise InputError(f"--feature {word}: both a sign and a state", f"write {name}={state}")
    if sign or not equals:
        state = OFF if sign == "-" else ON
    if state not in states:
        what = f"{state[:60]!r} is not a state" if equals else f"{name} cannot be {state}"
        hint = (
            unknown_hint(state, states, "states")
            if equals
            else f"write {name}= and one of {', '.join(states)}"
        )
        raise InputError(f"--feature {word[:60]}: {what}", hint)
    return name, state


def parse_features(
    words: Iterable[str], features: Mapping[str, Feature], states: Mapping[str, str], chip: str
) -> dict[str, str]:
    """Return feature → state of several words, after checking that what each needs is on.

    Args:
        words: as for :func:`parse_feature`.
        features: those that exist.
        states: the states of all features before.
        chip: the chip that shall have them.

    Raises:
        InputError: a word is wrong, two contradict each other, or a feature needs one that is off.
    """
    asked: dict[str, str] = {}
    for word in words:
        name, state = parse_feature(word, features, chip)
        if asked.setdefault(name, state) != state:
            raise InputError(f"--feature {word}: {name} is asked to be {asked[name]} too", "give one of them")
    after = {**states, **asked}
    for name, state in asked.items():
        for required in features[name].requires if state != OFF else ():
            other, _, wanted = required.partition("=")
            have = after.get(other, OFF)
            if have in (OFF, "") or (wanted and have != wanted):
                remedy = required if wanted else f"+{other}"
                raise InputError(
                    f"--feature {name}: needs {other} to be {wanted or 'on'}, and it is {have or OFF}",
                    f"add --feature {remedy}",
                )
    return asked


def check_overlay(
    overlay: Overlay, features: Mapping[str, Feature], types: Mapping[str, str], chip: str
) -> None:
    """Refuse an overlay with names that are not known.

    Raises:
        InputError: a feature, a state or a parameter that does not exist; the hint names the nearest.
    """
    for name, state in overlay.features.items():
        if state is not None:
            parse_feature(f"{name}={state}", features, chip)
    for name in overlay.parameters:
        if name not in types:
            raise InputError(
                f"{name[:60]!r} is not a parameter of a module", unknown_hint(name, types, "parameters")
            )
