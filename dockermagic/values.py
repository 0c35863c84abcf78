"""``dataclasses``, in those of its words that this project uses, for classes that cost nothing until they are used.

The start of a process is most of what a command takes. It defines some sixty classes of values and makes objects of a
few; ``dataclasses`` writes and compiles six methods for each of them and imports ``inspect``. Here a class keeps its
fields, and its ``__init__`` is written when there are more than a few objects. A type checker sees the standard
library, whose functions accept these classes, too.

Left out is what nobody here asks for: ordering, ``InitVar``, fields that are keyword-only one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["MISSING", "Field", "asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]


class _Missing:
    """The default of a field that has none."""


class _Field:
    """What is known of one field; ``name`` and ``type`` are given by its class."""

    __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "metadata", "name", "repr", "type")

    def __init__(
        self,
        *,
        default: Any = _Missing,
        default_factory: Any = _Missing,
        init: bool = True,
        repr: bool = True,
        compare: bool = True,
        metadata: Mapping[Any, Any] | None = None,
    ) -> None:
        self.name = ""
        self.type: Any = None
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.metadata: Mapping[Any, Any] = metadata or {}
        self.kw_only = False


class _StandardFields:
    """``__dataclass_fields__``: what the standard library's ``fields``, ``replace`` and ``asdict`` ask for."""

    def __get__(self, value: object, kind: type) -> Mapping[str, Any]:
        import dataclasses

        given = []
        for known in _fields(kind):
            names = ("default", "default_factory", "init", "repr", "compare", "metadata", "kw_only")
            words = {name: getattr(known, name) for name in names}
            said = {name: word for name, word in words.items() if word is not _Missing}
            given.append((known.name, known.type, dataclasses.field(**said)))
        made: Any = dataclasses.make_dataclass(kind.__name__, given, kw_only=True)
        found: Mapping[str, Any] = made.__dataclass_fields__
        return found


def _fields(kind: object) -> tuple[_Field, ...]:
    """The fields of a class or of an object, those of its bases first. Raises TypeError where it is no such class."""
    found: Mapping[str, _Field] | None = getattr(kind, "__fields_by_name__", None)
    if found is None:
        raise TypeError(f"{kind!r} is not made by dataclass")
    return tuple(found.values())


def _is_dataclass(value: object) -> bool:
    """Whether it is such a class, or an object of one."""
    return hasattr(value, "__fields_by_name__")


def _replace(value: Any, /, **changes: Any) -> Any:
    """A new object with some fields changed."""
    for known in _fields(value):
        if known.init and known.name not in changes:
            changes[known.name] = getattr(value, known.name)
    return type(value)(**changes)


def _asdict(value: Any) -> Any:
    """The fields by name, all the way down; for values that are meant to be JSON."""
    if _is_dataclass(value):
        return {known.name: _asdict(getattr(value, known.name)) for known in _fields(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(_asdict(item) for item in value)
    return {name: _asdict(item) for name, item in value.items()} if isinstance(value, dict) else value


def _dataclass(
    kind: type | None = None, *, frozen: bool = False, slots: bool = False, eq: bool = True, kw_only: bool = False
) -> Any:
    """The decorator; its words mean what they mean in ``dataclasses``."""

    def decorate(kind: type) -> type:
        return _made(kind, frozen=frozen, slots=slots, eq=eq, kw_only=kw_only)

    return decorate if kind is None else decorate(kind)


def _made(kind: type, *, frozen: bool, slots: bool, eq: bool, kw_only: bool) -> type:
    known: dict[str, _Field] = {}
    for base in reversed(kind.__mro__[1:]):
        known |= base.__dict__.get("__fields_by_name__", {})
    own = _own_fields(kind, kw_only)
    members: dict[str, Any] = {}
    if slots:
        members["__slots__"] = tuple(name for name in own if name not in known)
    known |= own
    names = [each.name for each in known.values() if each.init and not each.kw_only]
    members |= {"__fields_by_name__": known, "__dataclass_fields__": _StandardFields(), "__match_args__": tuple(names)}
    methods = {"__init__": _initializer(known, frozen), "__repr__": _shower(known)}
    if eq:
        methods |= _comparison(tuple(each.name for each in known.values() if each.compare), hashable=frozen)
    members |= {name: method for name, method in methods.items() if name not in kind.__dict__}
    if frozen:
        members |= {"__setattr__": _refuse, "__delattr__": _refuse, "__setstate__": _restore}
    if not slots:
        for name, member in members.items():
            setattr(kind, name, member)
        return kind
    kept = {name: member for name, member in kind.__dict__.items() if name not in own}
    for name in ("__dict__", "__weakref__"):
        kept.pop(name, None)
    made: type = type(kind)(kind.__name__, kind.__bases__, kept | members)
    made.__qualname__ = kind.__qualname__
    return made


def _own_fields(kind: type, kw_only: bool) -> dict[str, _Field]:
    found = {}
    for name, annotation in kind.__dict__.get("__annotations__", {}).items():  # noqa: RUF063
        if str(annotation).removeprefix("typing.").startswith("ClassVar"):
            continue
        default = kind.__dict__.get(name, _Missing)
        each = default if isinstance(default, _Field) else _Field(default=default)
        if type(each.default).__hash__ is None:
            raise ValueError(f"mutable default of {kind.__name__}.{name}: use default_factory")
        each.name, each.type, each.kw_only = name, annotation, kw_only
        found[name] = each
        if each.default is not _Missing:
            setattr(kind, name, each.default)
        elif default is not _Missing:
            delattr(kind, name)
    return found


_FEW = 5
"""So many objects take no longer to fill, field by field, than an ``__init__`` takes to be compiled."""


def _initializer(known: Mapping[str, _Field], frozen: bool) -> Callable[..., None]:
    made = 0

    def __init__(self: Any, *words: Any, **named: Any) -> None:
        nonlocal made
        made += 1
        if made <= _FEW and _fill(self, known, words, named):
            return
        # Several threads may come here at once: the fields are the class's own before and after that.
        kind = next(base for base in type(self).__mro__ if base.__dict__.get("__fields_by_name__") is known)
        written = _write(kind, known, frozen)
        setattr(kind, "__init__", written)  # noqa: B010
        written(self, *words, **named)

    return __init__


def _fill(value: Any, known: Mapping[str, _Field], words: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Do what ``__init__`` would; False where the words do not fit, of which it tells best itself."""
    names = [each.name for each in known.values() if each.init and not each.kw_only]
    given = dict(zip(names, words, strict=False))
    if len(words) > len(names) or given.keys() & named.keys():
        return False
    given.update(named)
    if not all(name in known and known[name].init for name in named):
        return False
    for each in known.values():
        if each.name in given:
            content = given[each.name]
        elif each.default_factory is not _Missing:
            content = each.default_factory()
        elif each.default is not _Missing:
            content = each.default
        elif each.init:
            return False
        else:
            continue
        object.__setattr__(value, each.name, content)
    if hasattr(value, "__post_init__"):
        value.__post_init__()
    return True


def _write(kind: type, known: Mapping[str, _Field], frozen: bool) -> Callable[..., None]:
    """The ``__init__`` of a class. A frozen one's slots are set by their descriptors, which refuse nothing."""
    words: dict[str, Any] = {"_missing": _Missing, "_set": object.__setattr__}
    parameters = ["self"]
    lines = []
    for each in sorted(known.values(), key=lambda each: each.kw_only):
        name = value = each.name
        if each.kw_only and "*" not in parameters:
            parameters.append("*")
        has_factory, has_default = each.default_factory is not _Missing, each.default is not _Missing
        words |= {f"_default_{name}": each.default, f"_make_{name}": each.default_factory}
        if each.init:
            default = "=_missing" if has_factory else f"=_default_{name}" if has_default else ""
            parameters.append(name + default)
            if has_factory:
                value = f"_make_{name}() if {name} is _missing else {name}"
        elif has_factory or has_default:
            value = f"_make_{name}()" if has_factory else f"_default_{name}"
        else:
            continue
        slot: Any = getattr(kind, name, None)
        if not frozen:
            lines.append(f"self.{name} = {value}")
        elif hasattr(slot, "__set__"):
            words[f"_set_{name}"] = slot.__set__
            lines.append(f"_set_{name}(self, {value})")
        else:
            lines.append(f"_set(self, {name!r}, {value})")
    if hasattr(kind, "__post_init__"):
        lines.append("self.__post_init__()")
    made: dict[str, Callable[..., None]] = {}
    exec(f"def __init__({', '.join(parameters)}):\n  " + "\n  ".join(lines or ["pass"]), words, made)
    made["__init__"].__qualname__ = f"{kind.__qualname__}.__init__"
    return made["__init__"]


def _shower(known: Mapping[str, _Field]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in known.values() if each.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    return __repr__


def _comparison(names: tuple[str, ...], *, hashable: bool) -> dict[str, Any]:
    content: Callable[[Any], Any] = attrgetter(*names) if names else lambda value: ()

    def __eq__(self: Any, other: object) -> Any:
        return content(self) == content(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(content(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if hashable else None}


def _refuse(self: object, name: str, value: object = None) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change the field {name!r}")


def _restore(self: object, state: tuple[object, Mapping[str, Any]]) -> None:
    """What ``copy`` and ``pickle`` call."""
    for name, value in state[1].items():
        object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
else:
    MISSING, Field, field = _Missing, _Field, _Field
    asdict, dataclass, fields, is_dataclass, replace = _asdict, _dataclass, _fields, _is_dataclass, _replace
