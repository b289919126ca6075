"""Zero-copy conversion of numbers between Arrow and numpy.

pyarrow's own conversions load pandas if it is installed, which takes longer than a query, and
otherwise look for it on each call, which takes a tenth of a lookup.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_N = TypeVar("_N", bound=np.generic)


def numbers(column: pa.ChunkedArray | pa.Array, dtype: type[_N]) -> npt.NDArray[_N]:
    """A column without nulls as [rows]; a view if it has one chunk.

    Args:
        column: numbers of the size of `dtype`.
        dtype: type of the result.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(array):
        return np.empty(0, dtype)
    found = np.frombuffer(array.buffers()[1], dtype, count=array.offset + len(array))
    return found[array.offset :]


def column(values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """Numbers [rows] as an Arrow array of a type of the same size."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, buffer])
