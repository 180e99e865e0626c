"""The types of pyarrow that are kept here, against the release that is installed."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_STUBS = Path(__file__).parent.parent / "stubs"
_ANYTHING = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def _functions(node: ast.Module | ast.ClassDef, place: str) -> Iterator[tuple[str, ast.FunctionDef | None]]:
    for child in node.body:
        match child:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield f"{place}.{name}", None
                yield from _functions(child, f"{place}.{name}")
            case ast.FunctionDef(name=name) if name == "__init__" or not name.startswith("_"):
                yield f"{place}.{name}", child
            case ast.ImportFrom(names=names) if child.module != "typing":
                for each in names:
                    if each.asname and not each.asname.startswith("_"):
                        yield f"{place}.{each.asname}", None


def _declared() -> list[tuple[str, ast.FunctionDef | None]]:
    found = []
    for path in sorted(_STUBS.rglob("*.pyi")):
        module = ".".join(path.relative_to(_STUBS).with_suffix("").parts).removesuffix(".__init__")
        found += list(_functions(ast.parse(path.read_text(encoding="utf-8")), module))
    return found


def _real(name: str) -> Any:
    parts = name.split(".")
    modules = 2 if parts[1].islower() and (_STUBS / "pyarrow" / f"{parts[1]}.pyi").exists() else 1
    thing: Any = importlib.import_module(".".join(parts[:modules]))
    for part in parts[modules:]:
        # What only some kinds of a class have is declared at the class.
        kinds = [thing, *(_below(thing) if isinstance(thing, type) else ())]
        thing = getattr(next((kind for kind in kinds if hasattr(kind, part)), thing), part)
    return thing


def _below(kind: type) -> Iterator[type]:
    for below in list[type](kind.__subclasses__()):
        yield below
        yield from _below(below)


_DECLARED = _declared()


@pytest.mark.parametrize(("name", "function"), _DECLARED, ids=[name for name, _ in _DECLARED])
def test_what_the_types_promise_the_library_has(name: str, function: ast.FunctionDef | None) -> None:
    """Every class, member and argument that the checker lets us use exists in the installed pyarrow."""
    real = _real(name)
    try:
        known = inspect.signature(real).parameters
    except (TypeError, ValueError):
        return  # a property, or a class without a signature of its own
    if function is None or any(each.kind in _ANYTHING for each in known.values()):
        return
    wanted = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)} - {"self", "cls"}
    assert wanted <= set(known), f"{name} takes {sorted(known)}"


def test_a_name_that_the_library_has_not_is_noticed() -> None:
    """The comparison above can fail."""
    with pytest.raises(AttributeError):
        _real("pyarrow.lib.Array.no_such_method")
