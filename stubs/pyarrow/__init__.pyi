"""Types of the parts of pyarrow that ksql-lake uses; a test holds them against the installed release."""

from pyarrow import types as types
from pyarrow.lib import (
    Array as Array,
)
from pyarrow.lib import (
    ArrowException as ArrowException,
)
from pyarrow.lib import (
    ArrowInvalid as ArrowInvalid,
)
from pyarrow.lib import (
    BinaryArray as BinaryArray,
)
from pyarrow.lib import (
    BooleanArray as BooleanArray,
)
from pyarrow.lib import (
    Buffer as Buffer,
)
from pyarrow.lib import (
    BufferOutputStream as BufferOutputStream,
)
from pyarrow.lib import (
    BufferReader as BufferReader,
)
from pyarrow.lib import (
    ChunkedArray as ChunkedArray,
)
from pyarrow.lib import (
    DataType as DataType,
)
from pyarrow.lib import (
    DictionaryArray as DictionaryArray,
)
from pyarrow.lib import (
    DoubleArray as DoubleArray,
)
from pyarrow.lib import (
    Field as Field,
)
from pyarrow.lib import (
    ListArray as ListArray,
)
from pyarrow.lib import (
    MapArray as MapArray,
)
from pyarrow.lib import (
    NativeFile as NativeFile,
)
from pyarrow.lib import (
    RecordBatch as RecordBatch,
)
from pyarrow.lib import (
    RecordBatchReader as RecordBatchReader,
)
from pyarrow.lib import (
    Scalar as Scalar,
)
from pyarrow.lib import (
    Schema as Schema,
)
from pyarrow.lib import (
    StringArray as StringArray,
)
from pyarrow.lib import (
    StructArray as StructArray,
)
from pyarrow.lib import (
    Table as Table,
)
from pyarrow.lib import (
    TimestampArray as TimestampArray,
)
from pyarrow.lib import (
    array as array,
)
from pyarrow.lib import (
    binary as binary,
)
from pyarrow.lib import (
    bool_ as bool_,
)
from pyarrow.lib import (
    concat_arrays as concat_arrays,
)
from pyarrow.lib import (
    concat_batches as concat_batches,
)
from pyarrow.lib import (
    concat_tables as concat_tables,
)
from pyarrow.lib import (
    date32 as date32,
)
from pyarrow.lib import (
    decimal128 as decimal128,
)
from pyarrow.lib import (
    field as field,
)
from pyarrow.lib import (
    float64 as float64,
)
from pyarrow.lib import (
    int32 as int32,
)
from pyarrow.lib import (
    int64 as int64,
)
from pyarrow.lib import (
    list_ as list_,
)
from pyarrow.lib import (
    map_ as map_,
)
from pyarrow.lib import (
    nulls as nulls,
)
from pyarrow.lib import (
    py_buffer as py_buffer,
)
from pyarrow.lib import (
    record_batch as record_batch,
)
from pyarrow.lib import (
    scalar as scalar,
)
from pyarrow.lib import (
    schema as schema,
)
from pyarrow.lib import (
    string as string,
)
from pyarrow.lib import (
    struct as struct,
)
from pyarrow.lib import (
    table as table,
)
from pyarrow.lib import (
    time32 as time32,
)
from pyarrow.lib import (
    time64 as time64,
)
from pyarrow.lib import (
    timestamp as timestamp,
)
from pyarrow.lib import (
    unify_schemas as unify_schemas,
)
