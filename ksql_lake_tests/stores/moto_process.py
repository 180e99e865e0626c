"""`python -m ksql_lake_tests.stores.moto_process`: moto's S3 in a process of its own, until its stdin closes.

Moto looks whether an object is there and then puts it, in one thread per request. A real store does that in one
step, and so does this server: conditional writes take turns.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _TakingTurns:
    def __init__(self, application: _Application) -> None:
        self.application = application
        self.turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return self.application(environ, start_response)
        with self.turn:
            return list(self.application(environ, start_response))


def main() -> None:
    """Serve on a free port of loopback and say which."""
    logging.getLogger("werkzeug").disabled = True
    server = make_server(
        "127.0.0.1", 0, _TakingTurns(DomainDispatcherApplication(create_backend_app)), threaded=True
    )
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.stdout.write(f"listening on http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
