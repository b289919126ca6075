"""Opening Parquet files, telling damaged ones from those that cannot be read at the moment."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.schemas.errors import DamagedFileError, UnreadableError
from hubdelta.schemas.files import why_unread


def open_parquet(path: Path) -> pq.ParquetFile:
    """Read a file's footer; its pages are checked when they are read.

    Raises:
        DamagedFileError: it is incomplete or corrupt.
        UnreadableError: it cannot be read at the moment.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
        return pq.ParquetFile(path, page_checksum_verification=True)
    except OSError as error:
        if error.errno is None:  # Arrow's way of saying that a page or footer is invalid
            raise DamagedFileError(f"damaged Parquet file {path} ({error})") from error
        raise UnreadableError(why_unread(path, error)) from error
    except pa.ArrowException as error:
        raise DamagedFileError(f"damaged Parquet file {path} ({error})") from error
