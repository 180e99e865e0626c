"""`ksql-lake doctor`: verify the lake against its manifests, and repair it on request."""

# Looking takes no lock and writes nothing. A repair takes each feed's lock and shows what it found before it
# acts.

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, groupby, repeat
from multiprocessing.connection import Connection

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.entry import FAILED, complain, unexpected_text
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_line, waiting
from ksql_lake.errors import ConfigError, KsqlLakeError, UnknownFeedError
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import Examination, Finding, Problem, Remedy, examine, feeds_in, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.locking import exclusive
from ksql_lake.quantities import count_text, size_text
from ksql_lake.register import refresh, stale
from ksql_lake.settings import load_settings

_HELP = """Verify the lake against its manifests, footers and checksums.

It examines every feed in the lake, also those without a feed file: each manifest, every byte of each data file,
and whether each row belongs to its day. --quick skips the bytes and rows. From 16 feeds on, several processes
examine them: one per core, at most 8.

--repair rebuilds what it can derive: manifests from the footers of the data files, all of `metadata/` if
necessary, and the indexes of `ksql-lake register`. It only lists files that have to leave the lake. --apply
moves these to the feed's quarantine folder (and deletes none); the next export reads their days again.

\b
Examples:
  ksql-lake doctor
  ksql-lake doctor orders --quick
  ksql-lake doctor --repair             repair, and list what --apply would move
  ksql-lake doctor --repair --apply
  ksql-lake doctor --json | jq .sound

Exit codes: 0 sound, 1 findings remain (or a feed could not be examined), 2 usage or configuration.
"""

_OPTIONS = {Remedy.REPAIR: "--repair", Remedy.APPLY: "--repair --apply", Remedy.MANUAL: ""}

_FEEDS_PER_PROCESS = 8
"""A process starts in a third of a second, in which it examines five feeds of a year each."""
_MOST_PROCESSES = 8
"""A container counts the processors of its host, and each process takes 100 MB."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """The options of the command line."""

    quick: bool
    repair: bool
    apply: bool


@dataclass(slots=True)
class _Checkup:
    """The examination of one feed: what was found, what was repaired, and what remains."""

    layout: FeedLayout
    found: Examination | None = None
    now: Examination | None = None
    mended: list[Finding] = field(default_factory=list)
    error: str = ""

    @property
    def sound(self) -> bool:
        """Whether no finding remains."""
        return not self.error and self.now is not None and self.now.sound

    def as_dict(self) -> dict[str, object]:
        """The result as JSON-ready data."""
        found, now = self.found, self.now
        return {
            "feed": self.layout.name,
            "kind": self.layout.kind,
            "sound": self.sound,
            "files": now.files if now else None,
            "bytes": now.bytes if now else None,
            "findings": [finding.as_dict() for finding in found.findings] if found else [],
            "mended": [finding.as_dict() for finding in self.mended],
            "remaining": [finding.as_dict() for finding in now.findings] if now else [],
            "error": self.error or None,
        }


@click.command(help=_HELP)
@click.argument("names", shell_complete=feed_names(), nargs=-1, metavar="[FEED]...")
@click.option("--repair", is_flag=True, help="Rebuild what can be derived.")
@click.option("--apply", is_flag=True, help="With --repair: also move listed files out of the lake.")
@click.option("--quick", is_flag=True, help="Sizes and footers only, not every byte and row.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    context: click.Context, /, *, names: tuple[str, ...], as_json: bool, quick: bool, repair: bool, apply: bool
) -> None:
    """Examine and repair the lake."""
    if apply and not repair:
        raise click.UsageError("--apply goes with --repair")
    lake = Lake(load_settings().lake_root)
    wish = _Wish(quick=quick, repair=repair, apply=apply)
    checkups = []
    with notes_from_log():
        layouts = _layouts(lake, names)
        for layout, known in zip(layouts, _known_sound(lake, layouts, wish), strict=True):
            checkup = _Checkup(layout)
            checkups.append(checkup)
            try:
                _visit(lake.storage, checkup, wish, known, as_json=as_json)
            except KsqlLakeError as error:
                checkup.error = str(error.at(feed=layout.name))
                complain(checkup.error)
    if as_json:
        sound = all(checkup.sound for checkup in checkups)
        print_json({"lake": lake.root, "sound": sound, "feeds": [checkup.as_dict() for checkup in checkups]})
    else:
        _summarise(lake, checkups, wish)
    context.exit(0 if all(checkup.sound for checkup in checkups) else FAILED)


def _layouts(lake: Lake, names: Sequence[str]) -> list[FeedLayout]:
    held = feeds_in(lake.storage)
    if not lake.begun:
        raise ConfigError(
            "there is no lake here",
            hint="Run from the project's folder, or set KSQL_LAKE_ROOT; the first export makes the lake.",
            path=lake.root,
        )
    known = [layout.name for layout in held]
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known) or (f"It holds: {', '.join(known)}" if known else "It is empty.")
            raise UnknownFeedError(f"the lake at {lake.root} holds nothing of a feed {name!r}", hint=meant)
    return [layout for layout in held if not names or layout.name in names]


def _look(storage: Storage, layout: FeedLayout, wish: _Wish) -> Examination:
    found = examine(storage, layout, contents=not wish.quick)
    if not found.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED):
        found.findings += stale(storage, layout, found.state)
    return found


def _known_sound(lake: Lake, layouts: Sequence[FeedLayout], wish: _Wish) -> Iterator[Examination | None]:
    """Yield what other processes found of each feed; None where this process has to look.

    They only look. A feed with a finding is examined again here, where it is shown and repaired.
    """
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES, len(layouts) // _FEEDS_PER_PROCESS)
    if processes < 2 or lake.storage.paged:
        yield from repeat(None, len(layouts))
        return
    apart = multiprocessing.get_context("spawn")  # a fork copies the locks of threads that it does not copy
    readers, started = [], []
    for number in range(processes):
        reader, writer = apart.Pipe(duplex=False)
        work = (lake.root, layouts[number::processes], wish, writer)
        process = apart.Process(target=_send_sound, args=work, daemon=True)
        with suppress(OSError):  # the system starts no further process
            process.start()
            started.append(process)
        writer.close()
        readers.append(reader)
    for layout, reader in zip(layouts, cycle(readers), strict=False):
        with waiting(f"examining {layout.kind} {layout.name}"):
            try:
                found = reader.recv()
            except EOFError:  # the process was killed, or did not start
                found = None
        yield Examination(layout, files=found[0], bytes=found[1]) if found else None
    for process in started:
        process.join()


def _send_sound(root: str, layouts: Sequence[FeedLayout], wish: _Wish, writer: Connection) -> None:
    """Send the files and bytes of each sound feed, and None for any other; the body of another process."""
    # Ctrl-C ends the process that asked, and its end ends this one, also in the middle of a large feed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_asker, daemon=True).start()
    storage = Lake(root).storage
    for layout in layouts:
        try:
            found = _look(storage, layout, wish)
        except Exception:  # noqa: BLE001 - it happens again where it is shown
            found = None
        try:
            writer.send((found.files, found.bytes) if found and found.sound else None)
        except BrokenPipeError:
            return


def _end_with_asker() -> None:
    """Wait until the process that asked has ended, also when it was killed, and end this one."""
    asker = multiprocessing.parent_process()
    assert asker is not None  # noqa: S101 - only another process runs this
    asker.join()
    os._exit(FAILED)


def _visit(
    storage: Storage, checkup: _Checkup, wish: _Wish, known: Examination | None, *, as_json: bool
) -> None:
    layout = checkup.layout

    def look() -> Examination:
        with waiting(f"examining {layout.kind} {layout.name}"):
            return _look(storage, layout, wish)

    checkup.found = checkup.now = known or look()
    if checkup.found.sound or not wish.repair:
        _show(checkup.found, as_json=as_json)
        return
    with exclusive(storage, layout):
        # The process that held the lock until now may have changed the findings.
        checkup.found = checkup.now = look()
        _show(checkup.found, as_json=as_json, planning=wish.apply)
        if any(_derivable(finding) for finding in checkup.found.findings):
            _mend(storage, checkup, checkup.found, as_json=as_json)
            checkup.now = look()
        if wish.apply and _plan(checkup.now):
            if not set(_plan(checkup.now)) <= set(checkup.found.findings):
                _show(checkup.now, as_json=as_json, planning=True)
            _mend(storage, checkup, checkup.now, as_json=as_json, apply=True)
            checkup.now = look()
        if checkup.now.of(Problem.INDEX_STALE) and not checkup.now.of(
            Problem.FILE_MISSING, Problem.FILE_DAMAGED
        ):
            # Last: an index is derived from what was just repaired, and its failure must not stop the repair.
            _refresh_indexes(storage, checkup, as_json=as_json)
            checkup.now = look()
    if checkup.mended and not as_json:
        _outcome(checkup, checkup.now)


def _derivable(finding: Finding) -> bool:
    return finding.remedy is Remedy.REPAIR and finding.problem is not Problem.INDEX_STALE


def _plan(examination: Examination) -> list[Finding]:
    """Return what --apply would move; nothing while manifests are missing: they may name any of these files."""
    if examination.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED):
        return []
    return [finding for finding in examination.findings if finding.remedy is Remedy.APPLY]


def _mend(
    storage: Storage, checkup: _Checkup, examination: Examination, *, as_json: bool, apply: bool = False
) -> None:
    with _reporting_repairs(checkup, as_json=as_json):
        checkup.mended.extend(repair(storage, examination, apply=apply))


def _refresh_indexes(storage: Storage, checkup: _Checkup, *, as_json: bool) -> None:
    with _reporting_repairs(checkup, as_json=as_json):
        try:
            checkup.mended.extend(refresh(storage, checkup.layout))
        except KsqlLakeError as error:
            checkup.error = str(error.at(feed=checkup.layout.name))
        except Exception as error:  # noqa: BLE001 - the error of a format's library about one feed; the others continue
            checkup.error = f"feed {checkup.layout.name}: {unexpected_text(error)}"
        if checkup.error:
            complain(checkup.error)


@contextmanager
def _reporting_repairs(checkup: _Checkup, *, as_json: bool) -> Iterator[None]:
    before = len(checkup.mended)
    try:
        yield
    finally:
        done = checkup.mended[before:]
        if done and not as_json:
            print_line("  ", ("repaired", "green"), f": {_counted(done)}")


def _show(examination: Examination, *, as_json: bool, planning: bool = False) -> None:
    """Print the findings; with JSON only a plan that will be applied, on stderr."""
    if as_json and not planning:
        return
    print_line(*_headline(examination), err=as_json)
    _list(examination.findings, err=as_json)


def _list(findings: Sequence[Finding], *, err: bool = False) -> None:
    for problem, alike in groupby(sorted(findings, key=_order), key=lambda finding: finding.problem):
        first, *others = alike
        option = _OPTIONS[first.remedy]
        print_line("  ", (str(problem), "bold red"), f": {first.action}{option and f' ({option})'}", err=err)
        for finding in (first, *others):
            print_line(f"    {finding.key}: {finding.detail}", err=err)


def _order(finding: Finding) -> int:
    return list(Problem).index(finding.problem)


def _counted(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.problem for finding in sorted(findings, key=_order))
    return ", ".join(f"{problem} ({count:,})" for problem, count in counts.items())


def _outcome(checkup: _Checkup, now: Examination) -> None:
    if now.sound:
        print_line("  ", *_verdict(now), " now")
        return
    print_line("  ", ("remain", "bold red"), f": {_counted(now.findings)}")
    shown = set(checkup.found.findings) if checkup.found else set()
    _list([finding for finding in now.findings if finding not in shown])


def _headline(examination: Examination) -> Iterator[str | tuple[str, str]]:
    layout = examination.layout
    size = f"{count_text(examination.files, 'file')}, {size_text(examination.bytes)}"
    yield from (f"{layout.kind} ", (layout.name, "bold"), f": {size}, ")
    yield from _verdict(examination)


def _verdict(examination: Examination) -> Iterator[str | tuple[str, str]]:
    findings = examination.findings
    yield (count_text(len(findings), "finding"), "bold red") if findings else ("sound", "green")


def _summarise(lake: Lake, checkups: Sequence[_Checkup], wish: _Wish) -> None:
    if not checkups:
        note(f"the lake at {lake.root} holds nothing yet")
        return
    looked = [checkup.now for checkup in checkups if checkup.now is not None]
    findings = [finding for examination in looked for finding in examination.findings]
    files, size = sum(item.files for item in looked), sum(item.bytes for item in looked)
    counts = f"{count_text(len(looked), 'feed')}, {count_text(files, 'file')}, {size_text(size)} examined"
    failed = sum(bool(checkup.error) for checkup in checkups)
    verdict = count_text(len(findings), "finding") if findings or failed else "sound"
    print_line(f"{counts}: {verdict}", f", {count_text(failed, 'failure')}" if failed else "")
    remedies = {finding.remedy for finding in findings}
    if Remedy.REPAIR in remedies and not wish.repair:
        note("rebuild what can be derived: ksql-lake doctor --repair", label="next")
    elif Remedy.APPLY in remedies and not wish.apply:
        note("move the listed files out of the lake: ksql-lake doctor --repair --apply", label="next")
