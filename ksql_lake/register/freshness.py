"""Bring a feed's indexes up to date after each commit, without failing the commit."""

from __future__ import annotations

import logging

from ksql_lake.errors import printable
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.register.index import Format, register, registered

_log = logging.getLogger(__name__)


def keep_fresh(storage: Storage, layout: FeedLayout) -> tuple[Format, ...]:
    """Bring the indexes of a feed up to date, and return their formats; raises nothing.

    An index that cannot be updated is logged and stays stale, which `ksql-lake doctor` reports; the rows are
    committed.
    """
    done: list[Format] = []
    for form in _known(storage, layout):
        try:
            register(storage, layout, form)
        except Exception as error:  # noqa: BLE001 - what a format's library may say; the commit stands
            why = printable(str(error)).partition("\n")[0]
            _log.warning(
                "%s: the %s index is not up to date: %s; `ksql-lake register` builds it", layout.name, form, why
            )
        else:
            done.append(form)
    return tuple(done)


def _known(storage: Storage, layout: FeedLayout) -> tuple[Format, ...]:
    try:
        return registered(storage, layout)
    except Exception as error:  # noqa: BLE001 - as above
        _log.warning("%s: its indexes cannot be listed: %s", layout.name, printable(str(error)))
        return ()
