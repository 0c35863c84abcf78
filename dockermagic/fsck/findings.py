"""What a look through a store found, as values."""

from __future__ import annotations

from typing import Literal

from dockermagic.values import dataclass, field

__all__ = ["Finding", "Kind", "Notes", "Report"]

Kind = Literal["damage", "leftover", "note"]
"""``damage`` is content that is lost or wrong; a ``leftover`` is what a process that died could not take away; a
``note`` is worth knowing and nothing is wrong with it.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: where, what, what was done about it, and what a person can do."""

    kind: Kind
    place: str
    message: str
    mended: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found, and how many things of each kind were looked at."""

    checked: tuple[tuple[str, int], ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether anything was lost or wrong, mended or not."""
        return any(finding.kind == "damage" for finding in self.findings)


@dataclass(slots=True)
class Notes:
    """A report in the making."""

    checked: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """So many more of these were looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def damage(self, place: str, message: str, *, mended: str = "", hint: str = "") -> None:
        """Something is lost or wrong."""
        self.findings.append(Finding("damage", place, message, mended, hint))

    def leftover(self, place: str, message: str, mended: str = "removed") -> None:
        """Something was left, and was taken away."""
        self.findings.append(Finding("leftover", place, message, mended))

    def note(self, place: str, message: str, hint: str = "") -> None:
        """Nothing is wrong, but a person should know."""
        self.findings.append(Finding("note", place, message, "", hint))

    def report(self) -> Report:
        """What was found so far."""
        return Report(tuple(self.checked.items()), tuple(self.findings))
