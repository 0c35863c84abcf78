"""A text's findings, for tests that look at nothing else."""

from __future__ import annotations

from typing import Any

from dockermagic.dockerfile.linter import Diagnostic, check


def lint(text: str, **options: Any) -> list[Diagnostic]:
    """The findings about a text. Raises DockerfileSyntaxError for what is no Dockerfile."""
    report = check(text, **options)
    if report.error:
        raise report.error
    return list(report.diagnostics)
