"""`ksql-lake feeds enable | disable | archive | restore | accept`: change feed files, never the data."""

from __future__ import annotations

import click

from ksql_lake.feeds import FeedStore
from ksql_lake.settings import load_settings

_NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME...")


def _store() -> FeedStore:
    return FeedStore(load_settings().feeds_root)


@click.command(help="Let exports, schedules and Dagster take these feeds.")
@_NAMES
def enable(*, names: tuple[str, ...]) -> None:
    """Enable feeds."""
    for name in names:
        click.echo(f"enabled: {_store().enable(name)}")


@click.command(help="Leave these feeds out of exports, schedules and Dagster. Files and data stay.")
@_NAMES
def disable(*, names: tuple[str, ...]) -> None:
    """Disable feeds."""
    for name in names:
        click.echo(f"disabled: {_store().disable(name)}")


@click.command(help="Disable these feeds and move their files to archived/. Their data stays in the lake.")
@_NAMES
def archive(*, names: tuple[str, ...]) -> None:
    """Archive feeds."""
    for name in names:
        click.echo(f"archived, its data stays: {_store().archive(name)}")


@click.command(help="Move the files of these archived feeds back to active/ and enable the feeds.")
@_NAMES
def restore(*, names: tuple[str, ...]) -> None:
    """Restore feeds."""
    for name in names:
        click.echo(f"restored and enabled: {_store().restore(name)}")


@click.command(help="Move these proposed feed files (the sensor new_sources writes them) to active/.")
@_NAMES
def accept(*, names: tuple[str, ...]) -> None:
    """Accept proposed feeds."""
    for name in names:
        click.echo(f"accepted: {_store().accept(name)}")
