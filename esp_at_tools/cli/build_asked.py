"""What is asked of a build, once the options are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.job import BuildSource
from esp_at_tools.build.options import Options


@dataclass(frozen=True)
class AskedBuild:
    """What is asked of a build.

    Attributes:
        source: what it is made from.
        names: the modules; none for the one that the source is for or prepared for.
        all_modules: every module that the source has.
        output: the build folder, or of several modules the folder with one for each; None for ``build``.
        options: what is put in.
        jobs: what ``-j`` says.
        dry_run: ``--dry-run`` is given.
    """

    source: BuildSource
    names: tuple[str, ...]
    all_modules: bool
    output: Path | None
    options: Options
    jobs: int | None = None
    dry_run: bool = False

    @property
    def project(self) -> Path:
        """The source tree or checkout that is the source."""
        return self.source.path or Path()
