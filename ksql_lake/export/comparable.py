"""Which columns two sides can be compared on when their columns may have changed in between. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from ksql_lake.lake import FeedState
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.files.evolution import shared
from ksql_lake.lake.files.precision import CURRENT, blurred
from ksql_lake.schema import Array, KsqlType, Map, Schema, Struct

_ROUNDED = re.compile(r"\bTIME\b|\bDECIMAL\b")
"""Types whose earlier form lost digits; that of timestamps lost only the calendar of some centuries."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """What of the source's rows and of the lake's can be compared.

    Attributes:
        columns: Column -> the type that all sides share; its STRUCTs have the fields that all sides have.
        unseen: Columns, and fields of STRUCTs (`S->A`), that are not compared.
    """

    columns: dict[str, KsqlType]
    unseen: tuple[str, ...]

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the part of a batch that is compared."""
        cut = [_cut(batch.column(name), kind) for name, kind in self.columns.items()]
        return pa.RecordBatch.from_arrays(cut, names=list(self.columns))


def comparable(received: Schema, state: FeedState, files: Iterable[FileEntry]) -> Comparable:
    """Return what can be compared: what the source and every file have in a type that they share.

    Args:
        received: The source's columns, in the lake's names.
        state: The feed's state.
        files: The files that are compared with the source.
    """
    held = list(files)
    shapes = dict.fromkeys(state.shape(file) for file in held)  # most files of a day have the same columns
    sides = [{column.name: column.type for column in side} for side in (received, *shapes)]
    oldest = min(map(state.form, held), default=CURRENT)
    columns: dict[str, KsqlType] = {}
    unseen: dict[str, None] = {}
    for name in dict.fromkeys(name for side in sides for name in side):
        kind = _common([side.get(name) for side in sides])
        if kind is None or (_ROUNDED.search(kind.text) and blurred(kind, oldest)):
            unseen[name] = None
            continue
        columns[name] = kind
        unseen.update(dict.fromkeys(path for side in sides for path in _lost(name, side[name], kind)))
    return Comparable(columns, tuple(unseen))


def _common(kinds: list[KsqlType | None]) -> KsqlType | None:
    first, *others = kinds
    for other in others:
        first = shared(first, other) if first is not None and other is not None else None
    return first


def _lost(path: str, kind: KsqlType, common: KsqlType) -> Iterator[str]:
    """Yield the fields of STRUCTs that a type has and the common type lacks, as ksqlDB writes them: `S->A`."""
    match kind, common:
        case (Array(inner), Array(both)) | (Map(_, inner), Map(_, both)):
            yield from _lost(path, inner, both)
        case Struct(fields), Struct(kept):
            known = dict(kept)
            for name, inner in fields:
                if name in known:
                    yield from _lost(f"{path}->{name}", inner, known[name])
                else:
                    yield f"{path}->{name}"


def _cut(values: pa.Array, kind: KsqlType) -> pa.Array:
    wanted = _cut_type(values.type, kind)
    return values if wanted == values.type else values.cast(wanted)


def _cut_type(own: pa.DataType, kind: KsqlType) -> pa.DataType:
    """Return a type with the fields of STRUCTs that are compared; checksums depend on no order and no width."""
    match kind:
        case Struct(fields):
            known = dict(fields)
            every = [own.field(index) for index in range(own.num_fields)]
            return pa.struct(
                [each.with_type(_cut_type(each.type, known[each.name])) for each in every if each.name in known]
            )
        case Array(element):
            return pa.list_(own.value_field.with_type(_cut_type(own.value_type, element)))
        case Map(_, value):
            return pa.map_(own.key_type, own.item_field.with_type(_cut_type(own.item_type, value)))
    return own
