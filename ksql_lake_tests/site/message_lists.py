"""Every message that an error of ours begins with, found in the code, below the heading that explains it."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ksql_lake import errors
from ksql_lake.errors import KsqlLakeError
from ksql_lake_tests.site.command_pages import escaped

PACKAGE = Path(errors.__file__).parent
KINDS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, KsqlLakeError) and kind is not KsqlLakeError
}


@dataclass(frozen=True, order=True, slots=True)
class Message:
    """What an error says, `...` standing for what differs from one time to the next.

    Attributes:
        text: What happened.
        hint: What to do next; empty where the code that raises it leaves that to another.
    """

    text: str
    hint: str = ""


@cache
def messages() -> dict[str, list[Message]]:
    """The messages of each kind of error, by the name of its class, in alphabetical order."""
    found: defaultdict[str, set[Message]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node.func) in KINDS:
                hints = [word.value for word in node.keywords if word.arg == "hint"]
                hint = next((text for value in hints for text in _texts(value)), "")
                found[_name(node.func)] |= {
                    Message(text, hint) for argument in node.args[:1] for text in _texts(argument)
                }
    return {
        name: sorted(found[name], key=lambda said: (said.text.lstrip(".… ").lower(), said)) for name in KINDS
    }


def message_list(kind: str) -> str:
    """The messages of a kind of error as a list that can be folded."""
    lines = [
        f"- {escaped(said.text)}" + (f"<br>→ {escaped(said.hint)}" if said.hint else "")
        for said in messages()[kind]
    ]
    if not lines:
        return ""
    title = f"{len(lines)} messages" if len(lines) > 1 else "1 message"
    return "\n".join(
        [f'<details markdown="1"><summary>{title} of {kind}</summary>', "", *lines, "", "</details>", ""]
    )


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _texts(node: ast.expr) -> Iterator[str]:
    """What an expression can say, as far as the code shows it in one place."""
    match node:
        case ast.Constant(value=str(text)):
            yield _tidy(text)
        case ast.JoinedStr(values=parts):
            words = [part.value if isinstance(part, ast.Constant) else "..." for part in parts]
            text = _tidy("".join(map(str, words)))
            if re.search("[a-z]", text):
                yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)
        case ast.BinOp(left=one, op=ast.Add()):
            yield from (f"{text}..." for text in _texts(one))
        case _:
            return


def _tidy(text: str) -> str:
    text = " ".join(text.split())
    while "......" in text:
        text = text.replace("......", "...")
    return text
