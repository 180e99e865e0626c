"""Schema texts to types, back, and to Arrow."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.errors import SchemaError
from ksql_lake.schema import (
    MAX_DEPTH,
    Array,
    Column,
    Decimal,
    KsqlType,
    Map,
    Primitive,
    Schema,
    Struct,
    alike_fields,
    arrow_schema,
    arrow_type,
    parse_schema,
    parse_type,
)
from ksql_lake_tests.quick import examples

NOT_KSQL = "This is not a schema that ksqlDB writes; is the address that of a ksqlDB server?"
LEAVE_OUT = "Leave the column out: name the wanted ones in the feed's `columns`."

# ksqlDB does not double backticks, so the only name that cannot be recognised holds "` " and a type.
names = st.text(max_size=12).filter(lambda name: "` " not in name)
odd_names = st.sampled_from(
    ["a`b", "`", "a.b", "KEY", "INTEGER", "x, `y", "STRUCT<", " ", "", "new\nline", "Größe"]
)
decimals = st.integers(1, 38).flatmap(
    lambda digits: st.builds(Decimal, st.just(digits), st.integers(0, digits))
)


def structs(of: st.SearchStrategy[KsqlType]) -> st.SearchStrategy[KsqlType]:
    """STRUCTs of up to three fields, none included."""
    fields = st.lists(st.tuples(names | odd_names, of), max_size=3, unique_by=lambda field: field[0])
    return fields.map(lambda pairs: Struct(tuple(pairs)))


types: st.SearchStrategy[KsqlType] = st.recursive(
    st.sampled_from(list(Primitive)) | decimals,
    lambda inner: st.builds(Array, inner) | st.builds(Map, inner, inner) | structs(inner),
    max_leaves=8,
)
columns = st.builds(Column, names | odd_names, types, key=st.booleans())
schemas = st.lists(columns, min_size=1, max_size=5, unique_by=lambda column: column.name).map(
    lambda listed: Schema(tuple(listed))
)


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=schemas)
def test_a_printed_schema_reads_back_as_itself(schema: Schema) -> None:
    """Parsing undoes printing, for every type and for names with anything in them."""
    assert parse_schema(schema.text) == schema
    assert [parse_type(column.type.text) for column in schema] == [column.type for column in schema]
    assert tuple(column.name for column in schema) == schema.names
    assert len(schema) == len(schema.names)


@settings(max_examples=examples(300), deadline=None)
@given(text=st.text("`A ,<>()KEYINTGRSUCDMLP'0123", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_schema_or_a_schema_error(text: str) -> None:
    """Nothing but SchemaError comes of a text outside the grammar; one inside it loses nothing."""
    try:
        schema = parse_schema(text)
    except SchemaError:
        return
    assert parse_schema(schema.text) == Schema(
        tuple(Column(column.name, column.type, column.key) for column in schema)
    )


def test_a_header_of_a_table_pull_is_read_with_its_marks() -> None:
    """KEY, HEADERS and HEADER marks are distinguished from types, whatever the header's key holds."""
    schema = parse_schema(
        "`ID` BIGINT KEY, `W S` STRING, `H` ARRAY<STRUCT<`KEY` STRING, `VALUE` BYTES>> HEADERS, "
        "`X` BYTES HEADER('it''s, `A` INTEGER'), `M` MAP<STRING, DECIMAL(4, 2)>"
    )

    assert schema.names == ("ID", "W S", "H", "X", "M")
    assert [column.key for column in schema] == [True, False, False, False, False]
    assert [column.header for column in schema] == [False, False, True, True, False]
    assert schema.columns[2].type == Array(Struct((("KEY", Primitive.STRING), ("VALUE", Primitive.BYTES))))
    assert schema.text == (
        "`ID` BIGINT KEY, `W S` STRING, `H` ARRAY<STRUCT<`KEY` STRING, `VALUE` BYTES>>, `X` BYTES, "
        "`M` MAP<STRING, DECIMAL(4, 2)>"
    )


SCHEMA_ERRORS = [
    ("", "expected a back-quoted name and a type at character 1, found ''"),
    ("ID BIGINT", "expected a back-quoted name and a type at character 1, found 'ID BIGINT'"),
    ("`ID` INT", "expected a back-quoted name and a type at character 1, found '`ID` INT'"),
    ("`ID` BIGINT ", "expected the end of the schema at character 12, found ' '"),
    ("`ID` BIGINT PRIMARY", "expected the end of the schema at character 12, found ' PRIMARY'"),
    ("`ID` BIGINT,`B` BIGINT", "expected the end of the schema at character 12, found ',`B` BIGINT'"),
    ("`ID` BIGINT, ", "expected a back-quoted name and a type at character 14, found ''"),
    ("`ID` BIGINT KEY\n", "expected the end of the schema at character 12, found ' KEY\\n'"),
    ("`A` ARRAY", "expected '<' at character 10, found ''"),
    ("`A` ARRAY<BIGINT", "expected '>' at character 17, found ''"),
    ("`A` ARRAY<LONG>", "expected a type at character 11, found 'LONG>'"),
    ("`A` MAP<STRING>", "expected ', ' at character 15, found '>'"),
    ("`A` STRUCT<`B` BIGINT,`C` BIGINT>", "expected '>' at character 22, found ',`C` BIGINT>'"),
    ("`A` DECIMAL", "expected (precision, scale) at character 12, found ''"),
    ("`A` DECIMAL(\u0661, 0)", "expected (precision, scale) at character 12, found '(\u0661, 0)'"),
    (
        "`A` DECIMAL(0, 0)",
        "expected a precision of at least 1 and a scale not above it at character 12, found '(0, 0)'",
    ),
    (
        "`A` DECIMAL(4, 5)",
        "expected a precision of at least 1 and a scale not above it at character 12, found '(4, 5)'",
    ),
]


@pytest.mark.parametrize(("text", "message"), SCHEMA_ERRORS)
def test_a_text_outside_the_grammar_is_refused_where_it_leaves_it(text: str, message: str) -> None:
    """The error says what was expected, at which character, and what stood there."""
    with pytest.raises(SchemaError) as caught:
        parse_schema(text)

    assert str(caught.value) == f"{message}\n{NOT_KSQL}"


def test_a_type_text_ends_with_the_type() -> None:
    """A type with something behind it is no type."""
    with pytest.raises(SchemaError) as caught:
        parse_type("BIGINT KEY")

    assert str(caught.value) == f"expected the end of the type at character 7, found ' KEY'\n{NOT_KSQL}"


def test_names_that_stand_twice_are_refused() -> None:
    """Two columns, or two fields of one STRUCT, of the same name cannot be distinguished; other cases can."""
    with pytest.raises(SchemaError) as columns_twice:
        parse_schema("`B` BIGINT, `A` BIGINT, `A` STRING, `B` STRING, `a` STRING")
    with pytest.raises(SchemaError) as fields_twice:
        parse_schema("`A` ARRAY<STRUCT<`X` BIGINT, `x` BIGINT, `X` STRING>>")

    assert str(columns_twice.value) == (
        "column A, B occurs twice in the response's schema\nName each column once in the feed's `columns`."
    )
    assert str(fields_twice.value) == f"field X occurs twice in a STRUCT\n{LEAVE_OUT}"


@pytest.mark.parametrize("shape", ["ARRAY<{}>", "MAP<STRING, {}>", "STRUCT<`A` {}>"])
def test_nesting_has_a_bottom(shape: str) -> None:
    """Types nest to the stated depth, and deeper ones are refused rather than overflowing the stack."""
    text = "BIGINT"
    for _ in range(MAX_DEPTH):
        text = shape.format(text)
    assert parse_type(text).text == text

    with pytest.raises(SchemaError) as caught:
        parse_type(shape.format(text))

    assert str(caught.value) == f"types nest deeper than 64 levels\n{LEAVE_OUT}"


ARROW = [
    ("BOOLEAN", pa.bool_()),
    ("INTEGER", pa.int32()),
    ("BIGINT", pa.int64()),
    ("DOUBLE", pa.float64()),
    ("STRING", pa.string()),
    ("BYTES", pa.binary()),
    ("TIME", pa.time64("us")),
    ("DATE", pa.date32()),
    ("TIMESTAMP", pa.timestamp("ms", tz="UTC")),
    ("DECIMAL(38, 10)", pa.decimal128(38, 10)),
    ("ARRAY<INTEGER>", pa.list_(pa.int32())),
    ("MAP<BIGINT, DATE>", pa.map_(pa.int64(), pa.date32())),
    ("STRUCT<`a b` TIME>", pa.struct([("a b", pa.time64("us"))])),
]


@pytest.mark.parametrize(("text", "kind"), ARROW)
def test_each_type_has_one_arrow_type(text: str, kind: pa.DataType) -> None:
    """The stored type of every ksqlDB type is fixed."""
    assert arrow_type(parse_type(text)) == kind


def test_columns_keep_their_order_and_may_all_be_null() -> None:
    """The Arrow schema has the response's columns in its order, every one nullable."""
    schema = arrow_schema(parse_schema("`Z` BIGINT KEY, `A` ARRAY<STRING>"))

    assert schema.names == ["Z", "A"]
    assert all(field.nullable for field in schema)


def test_what_parquet_cannot_store_is_refused_with_its_column() -> None:
    """A STRUCT without fields and a DECIMAL of more than 38 digits name their column and the way out."""
    with pytest.raises(SchemaError) as empty:
        arrow_schema(parse_schema("`ID` BIGINT, `S` ARRAY<STRUCT< >>"))
    with pytest.raises(SchemaError) as long:
        arrow_schema(parse_schema("`ID` BIGINT, `D` MAP<STRING, DECIMAL(50, 40)>"))

    assert str(empty.value) == f"column S: Parquet cannot store a STRUCT without fields\n{LEAVE_OUT}"
    assert str(long.value) == (
        "column D: DECIMAL(50, 40) has more than the 38 digits that Parquet readers agree on\n"
        f"{LEAVE_OUT} Or cast it to a shorter DECIMAL in a derived stream."
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("STRUCT<`x` BIGINT, `X` BIGINT>", ("S.x", "S.X")),
        ("ARRAY<STRUCT<`a` MAP<STRING, STRUCT<`b` BIGINT, `C` BIGINT, `B` BIGINT>>>>", ("S.a.b", "S.a.B")),
        ("MAP<STRUCT<`k` BIGINT, `K` BIGINT>, BIGINT>", ("S.k", "S.K")),
        ("STRUCT<`x` STRUCT<`X` BIGINT>, `y` STRUCT<`x` BIGINT>>", None),
        ("BIGINT", None),
    ],
)
def test_fields_that_differ_only_in_case_are_found(text: str, found: tuple[str, str] | None) -> None:
    """At any depth, each STRUCT for itself, and named by their paths."""
    assert alike_fields(parse_type(text), "S") == found
