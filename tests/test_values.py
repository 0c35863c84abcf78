"""Values behave as ``dataclasses`` makes them: the same classes, made both ways, answer alike."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dockermagic import values

STANDARD = SimpleNamespace(
    **{name: getattr(dataclasses, name) for name in ("dataclass", "field", "fields", "replace", "asdict")}
)


def classes(made: Any) -> SimpleNamespace:
    """A few classes as this project writes them, by one decorator or the other."""

    @made.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        names: dict[str, int] = made.field(default_factory=dict)
        secret: str = made.field(default="s", repr=False, compare=False)
        kind: ClassVar[str] = "point"

        @property
        def sum(self) -> int:
            return self.x + self.y

    @made.dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        note: str = ""
        place: Point | None = made.field(default=None, compare=False)

    @made.dataclass(frozen=True, slots=True)
    class Derived(Base):
        words: tuple[Point, ...]
        more: int = 0

    @made.dataclass(slots=True)
    class Open:
        first: int
        total: int = made.field(init=False)
        found: list[int] = made.field(init=False, default_factory=list)

        def __post_init__(self) -> None:
            self.total = self.first + 1

    @made.dataclass
    class Loose:
        first: int = 1

        def __repr__(self) -> str:
            return "loose"

    @made.dataclass(frozen=True, slots=True, eq=False)
    class Same:
        pass

    return SimpleNamespace(**{name: each for name, each in locals().items() if isinstance(each, type)})


OURS, THEIRS = classes(values), classes(STANDARD)

ALIKE: dict[str, Callable[[Any], object]] = {
    "shown": lambda by: [
        repr(by.Point(1)),
        repr(by.Derived((by.Point(1),), note="n")),
        repr(by.Open(1)),
        repr(by.Loose()),
    ],
    "equal": lambda by: [
        by.Point(1) == by.Point(1, secret="other"),
        by.Point(1) == by.Point(2),
        by.Same() == by.Same(),
    ],
    "of another kind": lambda by: [by.Point(1) == 1, by.Open(1) == by.Loose(1)],
    "hash": lambda by: hash(by.Derived((), note="n")) == hash(by.Derived((), note="n", place=by.Point(2))),
    "no hash of what changes": lambda by: hash(by.Open(1)),
    "no hash of what holds a dict": lambda by: hash(by.Point(1)),
    "a word too few": lambda by: by.Point(),
    "a word too many": lambda by: by.Loose(1, 2),
    "an unknown word": lambda by: by.Point(1, z=2),
    "keyword only": lambda by: by.Derived((), 1, "n"),
    "each has its own": lambda by: by.Point(1).names is by.Point(1).names,
    "set later": lambda by: [by.Open(1).total, by.Open(1).found],
    "not in the class": lambda by: [by.Point.kind, by.Point(1).sum, hasattr(by.Point(1), "__dict__")],
    "no other names": lambda by: setattr(by.Open(1), "other", 1),
    "changed": lambda by: setattr(by.Loose(1), "first", 2),
    "frozen": lambda by: setattr(by.Point(1), "x", 2),
    "frozen, derived": lambda by: setattr(by.Derived(()), "note", ""),
    "not deleted": lambda by: delattr(by.Point(1), "x"),
    "matched": lambda by: [each.__match_args__ for each in vars(by).values()],
    "documented": lambda by: [by.Point.__name__, by.Point.__qualname__, by.Point.__module__],
    "copied": lambda by: repr(copy.deepcopy(by.Derived((by.Point(1, names={"a": 1}),), note="n"))),
    "fields": lambda by: [each.name for each in dataclasses.fields(by.Derived)],
    "replaced by the library": lambda by: repr(dataclasses.replace(by.Derived((), note="n"), more=3)),
    "as a dict by the library": lambda by: dataclasses.asdict(by.Derived((by.Point(1, names={"a": 1}),))),
}


def outcome(case: Callable[[Any], object], by: SimpleNamespace) -> object:
    try:
        return case(by)
    except dataclasses.FrozenInstanceError:
        return "frozen"
    except (AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("name", ALIKE)
def test_it_is_as_the_standard_library_makes_it(name: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an ``__init__`` that is written at once, and with none that is written ever."""
    monkeypatch.setattr(values, "_FEW", few)

    assert outcome(ALIKE[name], classes(values)) == outcome(ALIKE[name], THEIRS)


@pytest.mark.parametrize(("by", "made"), [(OURS, values), (THEIRS, STANDARD)])
def test_functions_give_the_same(by: SimpleNamespace, made: Any) -> None:
    value = by.Derived((by.Point(1, names={"a": 1}),), note="n")

    assert [each.name for each in made.fields(value)] == ["note", "place", "words", "more"]
    assert made.replace(value, note="m") == by.Derived(value.words, note="m")
    assert made.asdict(value)["words"] == ({"x": 1, "y": 2, "names": {"a": 1}, "secret": "s"},)


def test_a_mutable_default_is_refused() -> None:
    class Wrong:
        found: list[int] = []  # noqa: RUF012

    with pytest.raises(ValueError, match="found"):
        values.dataclass(Wrong)


@values.dataclass(frozen=True, slots=True)
class Kept:
    """One that pickle finds by its name."""

    name: str


def test_a_value_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept("a"))) == Kept("a")


def test_two_threads_may_make_the_first_object_at_once() -> None:
    @values.dataclass(frozen=True, slots=True)
    class First:
        name: str

    begun: Any = First.__init__
    made = [First("a"), First.__new__(First)]
    begun(made[1], "a")
    assert made[0] == made[1]
