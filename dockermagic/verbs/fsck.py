"""``fsck``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag

if TYPE_CHECKING:
    from dockermagic.fsck import Finding

__all__ = ["FSCK"]


def _lines(finding: Finding) -> str:
    done = f" ({finding.mended})" if finding.mended else ""
    text = f"{finding.kind + ':':<10}{finding.place}: {finding.message}{done}\n"
    return text + (f"{'':<10}{finding.hint}\n" if finding.hint else "")


def fsck(console: Console, arguments: Arguments) -> int:
    """Check the store and say what was found; 1 where something was damaged."""
    report = console.engine.fsck(repair=arguments.flag("repair"), quick=arguments.flag("quick"))
    for finding in report.findings:
        console.write(_lines(finding))
    looked = ", ".join(f"{number} {what if number != 1 else what[:-1]}" for what, number in sorted(report.checked))
    left = sum(finding.kind == "leftover" for finding in report.findings)
    damaged = sum(finding.kind == "damage" for finding in report.findings)
    cleared = f", {left} leftover{'s' if left != 1 else ''} cleared" if left else ""
    console.write(f"{console.engine.home}: {f'{damaged} damaged' if damaged else 'clean'}{cleared} ({looked})\n")
    return 1 if damaged else 0


FSCK = Verb(
    "fsck",
    "[OPTIONS]",
    "Check the store, and clear what processes that died left behind",
    fsck,
    (
        flag("quick", "", "Do not read files to their end"),
        flag("repair", "", "Forget damaged layers, so that they are built again"),
    ),
    more=(
        "Every blob, image, layer and record is looked at. Leftovers are removed; of what is damaged it is said what\n"
        "to do. The exit code is 1 where anything was damaged, else 0."
    ),
)
