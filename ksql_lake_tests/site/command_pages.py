"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from ksql_lake.cli.app import app


def commands() -> str:
    """Every command with its help, arguments and options, as Markdown."""
    return "\n".join(_section(path, command) for path, command in walk(app, "ksql-lake"))


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with the words that call it, in the order of the help."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    names = app.context_settings["help_option_names"]
    context = click.Context(command, info_name=path, help_option_names=names)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"## {path}", f"```text\n{usage}\n```", *_paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        parts.append(_table_of_commands(command, path))
    parameters = list(command.params)
    if (asked := command.get_help_option(context)) is not None:
        # click keeps the help option of the first context that asked for it, and that may be another program's.
        parameters.append(click.Option(names, is_flag=True, help=asked.help))
    rows = [row for parameter in parameters if (row := _row(parameter, context))]
    parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those that keep their lines become blocks of code."""
    for paragraph in text.strip().split("\n\n"):
        if not paragraph.startswith("\b"):
            yield escaped(" ".join(paragraph.split()))
            continue
        lines = paragraph.removeprefix("\b\n").splitlines()
        if lines[0].rstrip().endswith(":") and len(lines) > 1:
            yield escaped(lines.pop(0).strip())
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        yield "\n".join(["```text", *(line[indent:] for line in lines), "```"])


def _table_of_commands(group: click.Group, path: str) -> str:
    context = click.Context(group)
    rows = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        first = (command.help or "").strip().partition("\n\n")[0]
        anchor = f"{path} {name}".replace(" ", "-")
        rows.append(f"| [`{name}`](#{anchor}) | {escaped(' '.join(first.split()))} |")
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def _row(parameter: click.Parameter, context: click.Context) -> str:
    if isinstance(parameter, click.Argument):
        needed = "" if parameter.required else "Optional."
        return f"| `{parameter.make_metavar(context)}` | {needed} |" if needed else ""
    record = parameter.get_help_record(context)
    if record is None:
        return ""
    names, meaning = record
    return f"| `{names.replace('|', ' or ')}` | {escaped(meaning)} |"


def escaped(text: str) -> str:
    """A text in which nothing is taken for Markdown but back-quotes."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(
        span.replace("|", "\\|") if span.startswith("`") else re.sub(r"([*_<|\[\]])", r"\\\1", span)
        for span in spans
    )
