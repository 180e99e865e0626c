"""Start the program: run a command, print errors as text, return the exit code.

A traceback appears only with `--debug`.
"""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise

import click

from ksql_lake.cli.app import app
from ksql_lake.cli.terminal.journal import ALWAYS_TOLD, journal
from ksql_lake.cli.terminal.loudness import document_begun, loudness
from ksql_lake.errors import ConfigError, KsqlLakeError

ALONE = "alone"
"""Key in click's context object: the process runs only this command line, not a test or another program."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
_KEPT = 128 << 20
_LARGEST = 32 << 20

FOR_THIS_PROCESS: set[str] = set()
"""Variables that were set for this process only; Dagster's processes, which run others' code too, get none."""

DEBUG = "debug"
"""Key in click's context object: show tracebacks."""

_QUIET, _VERBOSE = frozenset({"-q", "--quiet"}), frozenset({"-v", "--verbose"})
_EVERYWHERE = frozenset({"--debug", *_QUIET, *_VERBOSE})
"""Options that are accepted anywhere on the line."""

_GARBAGE = 200_000
"""Net new containers before the garbage collector runs; an export's imports make 117,000, which stay."""

_SILENT = logging.NullHandler()
_EXTRAS = {
    **dict.fromkeys(("h2", "sqlglot", "starlette", "uvicorn"), "devserver"),
    **dict.fromkeys(("fsspec", "obstore"), "object-store"),
    "polars": "polars",
    "deltalake": "delta",
    "pyiceberg": "iceberg",
    **dict.fromkeys(("celery", "dagster_celery"), "celery"),
    **dict.fromkeys(("dagster_k8s", "dagster_postgres"), "kubernetes"),
}
"""Packages that only an extra of ksql-lake installs, and that extra."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_ONLY_THE_REPORT = "The command did its work; only its output is lost."
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the arrays of the next block; does nothing without glibc."""
    import ctypes  # noqa: PLC0415 - start-up stays light

    if sys.platform != "linux" or not hasattr(process := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    process.mallopt(_TRIM_THRESHOLD, _KEPT)
    process.mallopt(_MMAP_THRESHOLD, _LARGEST)


def spare_libraries() -> None:
    """Let NumPy start no threads for linear algebra, and pydantic seek no plugins; a user's setting stays."""
    # The threads wait busily, one per processor, which took a seventh of a small export's CPU time. pydantic
    # looks for plugins in every installed package, which took a twentieth of the time of `plan`.
    for name in ("OPENBLAS_NUM_THREADS", "PYDANTIC_DISABLE_PLUGINS"):
        if name not in os.environ:  # noqa: TID251 - for libraries, which read it when they load
            os.environ[name] = "1"  # noqa: TID251
            FOR_THIS_PROCESS.add(name)


class _Warnings(logging.Handler):
    """Writes the warnings that every command shows, unless they are written as JSON lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if journal() is None:
            from ksql_lake.cli.terminal.output import note  # noqa: PLC0415 - rich loads only when needed

            note(record.getMessage(), label="warning")


_WARNINGS = _Warnings(logging.WARNING)


def main() -> None:
    """Run the command line and end the process."""
    # Imports make objects that stay; collecting garbage among them took a tenth of a short command's time.
    gc.set_threshold(_GARBAGE, 10, 10)
    try:
        keep_freed_memory()
        spare_libraries()
        code = run(sys.argv[1:], alone=True)
    except KeyboardInterrupt:  # while an error was printed, or a second time
        code = INTERRUPTED
    if code == INTERRUPTED:
        # A thread may still wait for a silent server, and Python would wait for the thread. Nothing it has read
        # is visible yet, so it can be abandoned.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    # Python looks for garbage once more when it ends, which took a sixth of a small export's time. DuckDB would
    # report what is then left.
    if "duckdb" not in sys.modules:
        gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str], *, alone: bool = False) -> int:
    """Run the command line and return its exit code; `alone` says that the process does nothing else."""
    words, everywhere = _everywhere(arguments)
    debug = "--debug" in everywhere
    quiet, verbose = (bool(everywhere & flags) for flags in (_QUIET, _VERBOSE))
    closed = _open_standard_streams() if alone else None
    if quiet and verbose:
        complain("-q and -v exclude each other")
        return USAGE
    # Warnings about repeated attempts stay hidden until a command shows them.
    logging.getLogger("ksql_lake").addHandler(_SILENT)
    for name in ALWAYS_TOLD:
        logging.getLogger(name).addHandler(_WARNINGS)
    try:
        with loudness(keep_quiet=quiet, verbose=verbose):
            code = _called(words, {DEBUG: debug, ALONE: alone})
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it.
        _give_up_output()
        return FAILED
    except (click.Abort, KeyboardInterrupt) as error:
        complain("interrupted")
        _print_error_document(error, words)
        return INTERRUPTED
    except click.ClickException as error:
        complain(usage_text(error))
        _print_error_document(error, words)
        return USAGE
    except KsqlLakeError as error:
        complain(str(error))
        _print_error_document(error, words)
        return USAGE if isinstance(error, ConfigError) else FAILED
    except ModuleNotFoundError as error:
        complain_missing(error, debug=debug)
        _print_error_document(error, words)
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence; shown, not swallowed
        if reason := _output_problem(error):
            _give_up_output()
            complain(f"standard output cannot be written: {reason}\n{_ONLY_THE_REPORT}")
            return FAILED
        complain_unexpected(error, debug=debug)
        _print_error_document(error, words)
        return FAILED
    if closed is not None and closed.wanted:
        complain(f"standard output is closed\n{_ONLY_THE_REPORT}")
        return FAILED
    return code if isinstance(code, int) else DONE


def _called(words: Sequence[str], facts: dict[str, bool]) -> object:
    """Run a command and return what it returns; any EOFError stays one."""
    try:
        return app.main(words, "ksql-lake", standalone_mode=False, obj=facts)
    except click.Abort as error:
        # click takes any EOFError for the end of what somebody types; after its own prompts it names no cause.
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None
        raise


def _everywhere(arguments: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Take the options out of a line that are accepted anywhere on it; what follows `--` is no option.

    After an unexpected error people add `--debug` at the end of the last command.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = frozenset(arguments[:end]) & _EVERYWHERE
    return [word for word in arguments[:end] if word not in found] + list(arguments[end:]), found


def _print_error_document(error: BaseException, words: Sequence[str]) -> None:
    """Write the error as a JSON document, if one was asked for and none was begun.

    A program that gets no document may take that for an empty one: `jq` ends with 0.
    """
    if not _asks_for_json(error, words) or document_begun():
        return
    from ksql_lake.cli.terminal.output import print_json  # noqa: PLC0415 - rich loads only when needed

    facts: dict[str, object] = {"type": type(error).__name__, "hint": "", "where": {}}
    if isinstance(error, KsqlLakeError):
        where = {name: str(value) for name, value in error.where.items()}
        facts |= {"message": error.message, "hint": error.hint, "where": where}
    elif isinstance(error, click.ClickException):
        facts["message"], _, facts["hint"] = usage_text(error).partition("\n")
    elif isinstance(error, click.Abort | KeyboardInterrupt):
        facts |= {"type": "Interrupted", "message": "interrupted"}
    else:
        facts["message"] = unexpected_text(error)
    try:
        print_json({"error": {name: facts[name] for name in ("type", "message", "hint", "where")}})
        sys.stdout.flush()
    except OSError:  # the error itself is on stderr
        _give_up_output()


def _asks_for_json(error: BaseException, words: Sequence[str]) -> bool:
    """Return whether a line asks for JSON on standard output, of a command that can print it."""
    line = list(words[: words.index("--")] if "--" in words else words)
    named = "--format=json" in line or ("--format", "json") in pairwise(line)
    asked = {"--json"} & set(line) | ({"--format"} if named else set())
    context = getattr(error, "ctx", None)  # of an error in the use of a command
    known = asked if context is None else {name for option in context.command.params for name in option.opts}
    return bool(asked & known)


class _NoOutput(io.TextIOBase):
    """Stands in for a closed standard output: discards text and records whether any was written.

    Attributes:
        wanted: Whether something was written to it.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.buffer = self

    def writable(self) -> bool:
        """Return True: it accepts text."""
        return True

    def write(self, text: str | bytes) -> int:
        """Record that text was written, and return its length."""
        self.wanted = self.wanted or bool(text)
        return len(text)


def _open_standard_streams() -> _NoOutput | None:
    """Keep descriptors 0 to 2 from being reused for files; return the stand-in for a closed standard output."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115 - a descriptor, for the whole process
    if sys.stdout is not None:
        return None
    closed = _NoOutput()
    sys.stdout = closed
    return closed


def _output_problem(error: BaseException) -> str:
    """Return why standard output cannot be written, if the error is about that; else an empty text.

    Errors about files carry a file name or have another type.
    """
    if isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT_ERRORS:
        return os.strerror(error.errno).lower()
    return ""


def _give_up_output() -> None:
    # Python flushes once more when it exits; the null device accepts that.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Write one error paragraph to stderr; on a terminal the lines wrap at words."""
    if (log := journal()) is not None:
        log.error(text)
        return
    from ksql_lake.cli.terminal.output import error_console  # noqa: PLC0415 - rich loads only when needed

    error_console().print(f"[bold red]error:[/] {_escaped(text)}", markup=True)


def complain_missing(error: ModuleNotFoundError, *, debug: bool) -> None:
    """Print which package is not installed, and how to install it if an extra of ksql-lake has it."""
    package = (error.name or "").partition(".")[0]
    if package in _EXTRAS:
        complain(f"this needs the package {package!r}\nInstall it: pip install 'ksql-lake[{_EXTRAS[package]}]'")
    else:
        complain_unexpected(error, debug=debug)


def complain_unexpected(error: BaseException, *, debug: bool) -> None:
    """Write an unexpected error: one line, or the traceback."""
    if debug:
        traceback.print_exception(error)
        return
    complain(unexpected_text(error))


def unexpected_text(error: BaseException) -> str:
    """Return an unexpected error as one line."""
    if isinstance(error, MemoryError):
        return "out of memory; export fewer feeds at once (--workers 1), or use a machine with more memory"
    message = " ".join(str(error).split()) or "no message"
    return f"unexpected {type(error).__name__}: {message} (run again with --debug for the traceback)"


def usage_text(error: click.ClickException) -> str:
    """Return what is wrong with the arguments, and the command that shows the help."""
    text = error.format_message()
    if not text[:2].isupper():  # an abbreviation such as HTML keeps its capitals
        text = text[:1].lower() + text[1:]
    context = getattr(error, "ctx", None)
    return f"{text}\nHelp: {context.command_path} --help" if context is not None else text


def _escaped(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415 - rich loads only when needed

    return escape(text)
