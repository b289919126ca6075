"""The weight files of an adapter or a whole model, chosen as PEFT and transformers do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, index_of, unreadable_format
from hubdelta.crawler.safetensors_header import Header, Tensor
from hubdelta.crawler.weight_index import (
    LONGEST_INDEX,
    WeightIndex,
    check_complete,
    missing_shard,
    owners,
    parse_index,
)
from hubdelta.indexer.adapters.source import Source
from hubdelta.schemas.errors import AdapterError, Reason


@dataclass(frozen=True)
class ChosenWeights:
    """Weight files, and what is known of them before fetching.

    Attributes:
        files: paths inside the repository.
        size: of all of them, in bytes.
        index: the index file that names them, if there is one.
        headers: of each file; None if only reading the files shows what they hold.
        file_of: tensor → the file that it is read from; empty without headers.
    """

    files: tuple[str, ...]
    size: int
    index: WeightIndex | None
    headers: Mapping[str, Header] | None = None
    file_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, each from the file that it is read from."""
        headers = self.headers or {}
        return {name: headers[file].tensors[name] for name, file in self.file_of.items()}


def reject_unreadable(listed: list[str]) -> None:
    """Reject weights in formats that their file names show to be unreadable.

    Args:
        listed: the weight files according to the catalog.

    Raises:
        AdapterError: no_weights, naming the formats that are there instead.
    """
    if not listed:
        raise AdapterError(
            Reason.NO_WEIGHTS,
            "the repository holds no weight file that PEFT or transformers reads "
            "(adapter_model.safetensors, model.safetensors, their shards and index, or .bin)",
        )
    formats = sorted({name for file in listed if (name := unreadable_format(file))})
    if formats:
        more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
        raise AdapterError(
            Reason.NO_WEIGHTS,
            f"holds only {' and '.join(formats)} files ({listed[0]}{more}): hubdelta needs "
            "safetensors or PyTorch weights, as transformers and PEFT save them",
        )


def choose_weights(source: Source, listed: list[str]) -> ChosenWeights:
    """Follow the index file, if there is one, to the weight files, and read their headers.

    Args:
        source: where they are.
        listed: a weight file, the index file of several, or shards, as in the catalog.

    Raises:
        AdapterError: no_weights (a file or shard is missing), corrupt
            (including files that disagree about a tensor), gated, not_found, disabled or network.
        HubError: offline, or a refused token.
    """
    index = _index(source, listed)
    if index is None:
        check_complete(listed)
    files = index.files if index else tuple(listed)
    try:
        if not all(file.endswith(".safetensors") for file in files):
            return ChosenWeights(files, sum(source.sizes(files)), index)
        headers: dict[str, Header] = {}
        for file in files:
            headers[file] = source.header(file)
    except AdapterError as error:
        if index and error.reason is Reason.NO_WEIGHTS:
            raise missing_shard(f"{index.path} names it, but {error}") from error
        raise
    file_of = owners({file: header.tensors for file, header in headers.items()}, index)
    size = sum(header.file_bytes for header in headers.values())
    return ChosenWeights(files, size, index, headers, file_of)


def _index(source: Source, listed: list[str]) -> WeightIndex | None:
    if listed[0].endswith(INDEX_SUFFIX):
        return parse_index(listed[0], source.text(listed[0], limit=LONGEST_INDEX))
    # Catalogs of earlier versions list shards without their index file.
    path = index_of(listed[0]) if len(listed) > 1 else None
    if path is None:
        return None
    try:
        return parse_index(path, source.text(path, limit=LONGEST_INDEX))
    except AdapterError as error:
        if error.reason is Reason.NO_WEIGHTS:
            return None
        raise
