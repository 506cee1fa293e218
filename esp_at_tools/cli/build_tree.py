"""Builds from a checkout: what its patches would change is said beside what the build itself says."""

from __future__ import annotations

import os
from dataclasses import replace

from esp_at_tools.build.job import Built, Job, run


def run_job(job: Job) -> Built:
    """Build one module; warn of patches without which the sdkconfig may not be that of a compiled build.

    Raises:
        EspAtError: what is asked for is impossible, or cannot be written.
    """
    built = run(job)
    warnings = _patch_warnings(job, built.recipe.full_name) if job.source.kind == "tree" else ()
    return replace(built, warnings=(*built.warnings, *warnings)) if warnings else built


def _patch_warnings(job: Job, module: str) -> tuple[str, ...]:
    if job.source.path is None or job.options.sdkconfig is not None:
        return ()
    from esp_at_tools.build.tree_kconfig import find_idf, open_extended
    from esp_at_tools.workspace.kconfig_patches import patch_warnings

    tree = open_extended(job.source.path, job.options.module_folder, os.environ)
    idf = find_idf(tree, job.options.idf, os.environ)
    return patch_warnings(tree, module, idf, os.environ) if idf is not None else ()
