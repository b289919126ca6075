"""Which adapters share a pass: every one once, of like ranks, within the bounds of a pass."""

from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubdelta.indexer.engines.edits.edits import DenseEdit, LowRank, TableEdit, numbers, rank
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.indexer.engines.stacked import batching
from hubdelta.indexer.engines.stacked.batching import Room, free_bytes

CPU = torch.device("cpu")
SHAPES = {"q": (8, 8), "k": (4, 8), "up": (16, 8), "down": (8, 16)}  # (out, in)
DENSE_NUMBERS = sum(rows * columns for rows, columns in SHAPES.values())
PADDING, SHARE = 0.1, 0.5
PLENTY = 2**40


def low_rank(name, rank):
    rows, columns = SHAPES[name]
    product = LowRank(torch.zeros(rank, columns), torch.zeros(rows, rank), 1.0)
    return DenseEdit(low_rank=product)


@st.composite
def an_adapter(draw):
    ranks = draw(st.dictionaries(st.sampled_from(sorted(SHAPES)), st.integers(1, 24)))
    edits = {name: low_rank(name, rank) for name, rank in ranks.items()}
    if draw(st.booleans()):
        edits["embedding"] = TableEdit(torch.zeros(draw(st.integers(1, 20)), 8))
    if draw(st.booleans()):
        edits["gate"] = DenseEdit(out_scale=torch.zeros(16))
    return edits


ADAPTERS = st.lists(an_adapter(), max_size=30)


def room(*, bytes_per_adapter=1000, dense_numbers=DENSE_NUMBERS, most=2**31, rows_per_adapter=1):
    return Room(CPU, bytes_per_adapter, rows_per_adapter, dense_numbers, most)


def divided(adapters, room, *, free=PLENTY, bytes_per_number=4):
    """The batches, as lists of adapters, on a machine with so much free memory."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(batching, "free_bytes", lambda device: free)
        batches = [list(batch) for batch in room.batches(adapters, bytes_per_number)]
    assert sorted(chain(*batches)) == list(range(len(adapters)))  # each exactly once, always
    assert all(batches)
    return [[adapters[place] for place in batch] for batch in batches]


def stacked_numbers(batch):
    """Numbers in the stacks: at each layer, every adapter's product is as wide as the widest."""
    widest = {
        name: max(edits[name].low_rank.rank for edits in batch if name in edits)
        for name in set(chain(*batch)) & SHAPES.keys()
    }
    products = sum(sum(SHAPES[name]) * widest[name] for name in widest) * len(batch)
    others = [{n: edit for n, edit in edits.items() if n not in SHAPES} for edits in batch]
    return products + sum(map(numbers, others))


@settings(deadline=None)
@given(ADAPTERS, st.integers(1, 8))
def test_no_batch_is_larger_than_asked(adapters, most):
    assert all(len(batch) <= most for batch in divided(adapters, room(most=most)))


@settings(deadline=None)
@given(ADAPTERS)
def test_padding_costs_little(adapters):
    for batch in divided(adapters, room()):
        padding = stacked_numbers(batch) - sum(map(numbers, batch))
        assert padding <= PADDING * DENSE_NUMBERS * len(batch)


@settings(deadline=None)
@given(ADAPTERS)
def test_neighbors_by_rank_share_a_batch(adapters):
    ranks = [rank(edits) for batch in divided(adapters, room()) for edits in batch]

    assert all(a <= b for a, b in pairwise(ranks))


@settings(deadline=None)
@given(ADAPTERS, st.integers(0, 100_000), st.sampled_from([2, 4]))
def test_a_batch_takes_half_of_the_free_memory_at_most(adapters, free, bytes_per_number):
    batches = divided(adapters, room(), free=free, bytes_per_number=bytes_per_number)

    for batch in batches:
        takes = stacked_numbers(batch) * bytes_per_number + 1000 * len(batch)
        assert takes <= SHARE * free or len(batch) == 1  # one alone is tried in any case


def test_like_adapters_fill_a_batch():
    adapters = [{"q": low_rank("q", 8)} for _ in range(20)]

    assert len(divided(adapters, room(most=8))) == 3
    assert len(divided(adapters, room(most=10))) == 2
    assert len(divided(adapters, room())) == 1


def test_ranks_far_apart_do_not_share_a_batch():
    small, large = [{"q": low_rank("q", 1)}] * 3, [{"q": low_rank("q", 24)}] * 3

    batches = divided([large[0], small[0], large[1], small[1], large[2], small[2]], room())

    assert [[rank(edits) for edits in batch] for batch in batches] == [[1] * 3, [24] * 3]


def test_no_adapters_make_no_batch():
    assert divided([], room()) == []


def test_more_tokens_than_make_a_product_faster_are_not_asked_for():
    adapters = [{"q": low_rank("q", 4)}] * 100
    tokens = 500

    batches = divided(adapters, room(rows_per_adapter=tokens))

    assert 2 <= max(len(batch) for batch in batches) <= 10_000 // tokens
    assert divided(adapters[:2], room(rows_per_adapter=10**6)) == [adapters[:1], adapters[1:2]]


def test_halving_goes_down_to_one_and_never_up():
    limited = room(most=10)
    sizes = []
    for failed in (10, 5, 8, 2, 1, 1):
        limited.halve(failed)
        sizes.append(limited.most)

    assert sizes == [5, 2, 2, 1, 1, 1]
    assert len(divided([{"q": low_rank("q", 4)}] * 3, limited)) == 3


def test_free_memory_is_the_machines():
    assert 2**20 < free_bytes(CPU) < 2**50


def test_an_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as too_much:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError) as misfit:
        torch.ones(2, 3) @ torch.ones(2, 3)

    assert is_out_of_memory(too_much.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(misfit.value)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",  # of the runtime, not of torch's allocator
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_an_out_of_memory_of_cuda_libraries_counts(message):
    assert is_out_of_memory(RuntimeError(message))
