"""What torch.save writes is found without unpickling, and judged before any of it is read."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from hubdelta.indexer.adapters.torch_file import read_contents
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason

TENSORS = {
    "plain": torch.arange(12.0).view(3, 4),
    "half": torch.arange(5).half(),
    "brain": torch.arange(6).bfloat16(),
    "transposed": torch.arange(12.0).view(3, 4).T,
    "slice": torch.arange(100.0)[10:40:3],
    "scalar": torch.tensor(3.0),
    "empty": torch.ones(0, 4),
    "integers": torch.arange(4),
    "flags": torch.tensor([True, False]),
    "parameter": nn.Parameter(torch.ones(2, 2), requires_grad=True),
}
FORMATS = {
    "zip": {},
    "protocol 5": {"pickle_protocol": 5},
    "before 1.6": {"_use_new_zipfile_serialization": False},
}


def saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "adapter_model.bin"


def refused(file: Path) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        read_tensors([file])
    return caught.value


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_tensors_are_those_that_were_saved(kind: type, options: dict, file: Path) -> None:
    file.write_bytes(saved(kind(TENSORS), **options))
    found = read_tensors([file])
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype is tensor.dtype
        assert torch.equal(found[name], tensor.detach()), name


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_a_model_with_tied_weights_and_buffers(options: dict, file: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4)
            self.c = nn.Linear(4, 4)
            self.c.weight = self.a.weight

    state = Tied().state_dict()
    file.write_bytes(saved(state, **options))
    found = read_tensors([file])
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert found.keys() == state.keys()


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.99, 0.9999])
def test_a_file_that_ends_early_is_corrupt(kept: float, options: dict, file: Path) -> None:
    content = saved({str(n): torch.randn(100, 40) for n in range(5)}, **options)
    file.write_bytes(content[: int(kept * len(content))])
    assert refused(file).reason is Reason.CORRUPT


def expanded(**options: object) -> bytes:
    return saved({"a": torch.ones(1).expand(200_000, 200_000)}, **options)


def huge_shape() -> bytes:
    """A shape far beyond its storage: the number 77 of the pickle exchanged for 2**31 - 1."""
    source, target = zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(77, 3)}))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            record = source.read(entry).replace(b"KMK\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")
            archive.writestr(entry.filename, record)
    return target.getvalue()


def squeezed() -> bytes:
    """A zip bomb: a storage of zeros, compressed a thousandfold."""
    source, target = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(3_000_000)}))), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (expanded(), "expanded views"),
        (expanded(_use_new_zipfile_serialization=False), "expanded views"),
        (huge_shape(), "larger than its storage"),
        (squeezed(), "compressed"),
    ],
    ids=["expanded", "expanded, before 1.6", "beyond its storage", "zip bomb"],
)
def test_what_would_take_much_more_than_the_file_is_refused_unread(
    content: bytes, says: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(content)
    monkeypatch.setattr("hubdelta.indexer.adapters.shards.empty", None)
    error = refused(file)
    assert error.reason is Reason.CORRUPT
    assert says in str(error)


def test_a_small_expanded_tensor_is_read(file: Path) -> None:
    file.write_bytes(saved({"a": torch.full((1,), 7.0).expand(3, 5)}))
    assert torch.equal(read_tensors([file])["a"], torch.full((3, 5), 7.0))


class Evil:
    def __reduce__(self) -> tuple:
        return print, ("run",)


@pytest.mark.parametrize(
    "content",
    [
        {"a": Evil()},
        {"a": {"b": torch.ones(2)}},
        {"a": 3},
        [torch.ones(2)],
        {1: torch.ones(2)},
        {(1, (2, 3)): torch.ones(2)},
        nn.Linear(2, 2),
        {"a": torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)},
    ],
    ids=["call", "nested", "number", "list", "key", "tuple key", "module", "sparse"],
)
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
def test_more_than_tensors_is_unsafe(
    content: object, options: dict, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(saved(content, **options))
    assert refused(file).reason is Reason.UNSAFE_FORMAT
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.ones(2, dtype=torch.complex64), "(a storage torch.ComplexFloatStorage)"),
        (torch.float32, "(a is a torch.float32)"),
    ],
    ids=["complex", "type"],
)
def test_what_is_unusual_is_named_as_the_file_names_it(
    content: object, says: str, options: dict, file: Path
) -> None:
    file.write_bytes(saved({"a": content}, **options))
    assert says in str(refused(file))


def test_a_key_that_takes_for_ever_to_hash_is_not_hashed(file: Path) -> None:
    """A tuple of itself twice, sixty times over."""
    key = b"(K\x01t" + b"2\x86" * 60
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + key + b"K\x01s.")
    assert refused(file).reason is Reason.UNSAFE_FORMAT


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02.",
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) * 5,
        b"\x80\x02X\xff\xff\xff\x7f",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"PK\x03\x04" + bytes(5000),
        bytes(5000),
        struct.pack("<q", 5) * 100,
    ],
    ids=["nothing", "magic", "numbers", "long text", "memo", "zip", "zeros", "noise"],
)
def test_what_is_no_file_of_torch_save_is_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert refused(file).reason in {Reason.CORRUPT, Reason.UNSAFE_FORMAT}


def test_contents_are_known_without_reading_them(file: Path) -> None:
    file.write_bytes(saved({"a": torch.zeros(3, 5)[:, 1:]}))
    tensor = read_contents(file)["a"]
    assert (tensor.shape, tensor.strides, tensor.dtype) == ((3, 4), (5, 1), torch.float32)
