"""One image of the whole flash, merged by esptool's library as esp-at's build does it.

Source: the target ``esp_at_factory_bin`` in ``CMakeLists.txt`` of esp-at v5.0.1.0.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator

from esp_at_tools.build.artefacts import Part
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.errors import InputError


def factory_images(recipe: Recipe, flashed: tuple[Part, ...]) -> tuple[bytes, bytes]:
    """Return the image that fills the flash, and the one that ends with its last part.

    The header of the bootloader gets the mode, frequency and size of the flash, and its SHA-256 is
    made anew, as when it is flashed.

    Raises:
        InputError: esptool cannot make it; the message has its reason.
    """
    unfilled = merged(recipe, ((part.offset, part.data) for part in flashed))
    return unfilled.ljust(recipe.flash.size, b"\xff"), unfilled


def with_flash_header(recipe: Recipe) -> bytes:
    """Return the bootloader with the recipe's flash mode, frequency and size in its header.

    Raises:
        InputError: see :func:`merged`.
    """
    offset = recipe.chip.bootloader_offset
    return merged(recipe, [(offset, recipe.bootloader)], start=offset)


def merged(recipe: Recipe, pieces: Iterable[tuple[int, bytes]], *, start: int = 0) -> bytes:
    """Return pieces of flash in one image, the bootloader's header set as the recipe says.

    Args:
        recipe: chip and flash settings.
        pieces: address and contents of each.
        start: address of the image's first byte.

    Raises:
        InputError: esptool cannot make it; the message has its reason.
    """
    import esptool
    from esptool.util import FatalError

    with _silenced():
        try:
            image = esptool.merge_bin(
                sorted(pieces),
                chip=recipe.chip.name,
                flash_freq=recipe.flash.freq,
                flash_mode=recipe.flash.mode,
                flash_size=recipe.flash.size_name,
                target_offset=start,
            )
        except FatalError as error:
            raise InputError(
                f"{recipe.full_name}: the flash image cannot be made: {error}",
                "check the parts and the flash settings of this module",
            ) from error
    return bytes(image)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep esptool from printing: what it says while it merges is no result of this program."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
