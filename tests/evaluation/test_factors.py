"""Inner products and masks of factors, beside those of explicit flattened weights in fp64."""

import tracemalloc
from pathlib import Path

import numpy as np
import peft
import pytest
from families import load_model, make_adapter, make_base
from lora import changes, factors, read, stored
from safetensors import safe_open

from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.pool import POOL
from hubdelta.evaluation.factors import read_factors
from hubdelta.evaluation.gram import update_products, weights_products
from hubdelta.evaluation.salient import model_weights, shared_entries, threshold
from hubdelta.evaluation.similarity import cosines
from hubdelta.indexer.base_structure import BaseStructure

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def pool(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of different ranks, layers and scalings."""
    folder = tmp_path_factory.mktemp("pool")
    kinds = {
        "plain": {"seed": 1},
        "same-layers": {"seed": 2},
        "rank-8": {"seed": 3, "r": 8, "lora_alpha": 4},
        "rslora": {"seed": 4, "use_rslora": True},
        "all-layers": {"seed": 5, "target_modules": ALL, "alpha_pattern": {"v_proj": 32}},
        "elsewhere": {"seed": 6, "target_modules": ["down_proj"]},
    }
    return {name: make_adapter(folder / name, tiny_base, **kind) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def shapes(pool: dict[str, Path]) -> dict[str, tuple[int, int]]:
    """The adapted layers, [out_features, in_features]."""
    found = {}
    for adapter in pool.values():
        for module, own in factors(adapter).items():
            found[module] = len(own["B"]), own["A"].shape[1]
    return found


@pytest.mark.parametrize("block", [2**28, 2**12], ids=["at-once", "in-blocks"])
def test_products_of_updates_are_those_of_flattened_changes(
    pool, shapes, tiny_base, tmp_path, block
):
    names = list(pool)
    store = stored(tmp_path / "store", tiny_base, pool, largest_block=block)
    made = np.stack([changes(pool[name], shapes) for name in names])
    found = update_products(store, names, names)
    np.testing.assert_allclose(found, made @ made.T, rtol=1e-6, atol=1e-9)
    some = update_products(store, names[4:], names)
    np.testing.assert_allclose(some, made[4:] @ made.T, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [2**28, 2**12], ids=["at-once", "in-blocks"])
def test_products_of_weights_are_those_of_concatenated_factors(
    pool, shapes, tiny_base, tmp_path, block
):
    def flat(adapter: Path) -> np.ndarray:
        own, parts = factors(adapter), []
        for module, (out_features, in_features) in shapes.items():
            down, up = np.zeros((8, in_features)), np.zeros((out_features, 8))
            if module in own:
                rank = len(own[module]["A"])
                down[:rank], up[:, :rank] = own[module]["A"], own[module]["B"]
            parts += [down.ravel(), up.ravel()]
        return np.concatenate(parts)

    names = list(pool)
    store = stored(tmp_path / "store", tiny_base, pool, largest_block=block)
    made = np.stack([flat(pool[name]) for name in names])
    found = weights_products(store, names, names)
    np.testing.assert_allclose(found, made @ made.T, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [2**28, 2**12], ids=["at-once", "in-blocks"])
def test_shared_salient_entries_are_those_of_explicit_masks(
    pool, shapes, tiny_base, tmp_path, block
):
    names = list(pool)
    store = stored(tmp_path / "store", tiny_base, pool, largest_block=block)
    structure = BaseStructure.read(tiny_base)
    weights = sum(parameter.numel() for parameter in structure.model.parameters())
    thresholds = {name: threshold(store, name, weights) for name in names}
    sizes = np.abs(np.stack([changes(pool[name], shapes) for name in names]))
    masks = (sizes > np.array(list(thresholds.values()))[:, np.newaxis]).astype(float)
    found = shared_entries(store, thresholds, names, names)
    # fp32 may round an entry to the other side of a threshold.
    np.testing.assert_allclose(found, masks @ masks.T, atol=2)
    marked = np.diag(found) / weights
    np.testing.assert_allclose(marked, 0.01, rtol=0.02)


def test_an_adapter_of_less_than_a_percent_is_salient_where_it_changes_anything(
    pool, shapes, tiny_base, tmp_path
):
    store = stored(tmp_path / "store", tiny_base, pool)
    size = sum(np.prod(shapes[module]) for module in factors(pool["plain"]))
    assert threshold(store, "plain", model_weights=int(size * 100)) == 0
    assert threshold(store, "plain", model_weights=int(size * 99)) > 0
    found = shared_entries(store, {"plain": 0.0}, ["plain"], ["plain"])
    assert found[0, 0] == pytest.approx(size, rel=1e-3)


def test_blocks_keep_memory_bounded_however_many_adapters_there_are(tiny_base, tmp_path, pool):
    def peak(count: int) -> int:
        adapters = {f"copy-{place}": pool["all-layers"] for place in range(count)}
        store = stored(tmp_path / f"store-{count}", tiny_base, adapters, largest_block=2**16)
        names, thresholds = list(adapters), dict.fromkeys(adapters, 0.01)
        peaks = []
        for compute in (
            lambda: weights_products(store, names, names[:1]),
            lambda: update_products(store, names, names[:1]),
            lambda: shared_entries(store, thresholds, names, names[:1]),
        ):
            tracemalloc.start()
            compute()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return max(peaks)

    few, many = peak(20), peak(160)
    own = sum(own["A"].size + own["B"].size for own in factors(pool["all-layers"]).values())
    assert many - few < 140 * 4 * own / 10


@pytest.mark.parametrize(
    ("config", "beside", "layers"),
    [
        (peft.LoraConfig(r=4, target_modules=["q_proj"]), None, 2),
        (peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True), "DoRA's magnitudes", 2),
        (peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]), "no LoRA factors", 0),
        (peft.LoHaConfig(r=4, target_modules=["q_proj"]), "no LoRA factors", 0),
        (
            peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
            "more than linear layers",
            2,
        ),
    ],
    ids=["lora", "dora", "ia3", "loha", "embedding"],
)
def test_what_factors_do_not_tell_is_named(tiny_base, tmp_path, config, beside, layers):
    adapter = make_adapter(tmp_path / "adapter", tiny_base, config=config)
    found = read_factors(read(adapter), BaseStructure.read(tiny_base))
    assert (found.beside, len(found.layers)) == (beside, layers)
    with safe_open(adapter / "adapter_model.safetensors", "np") as file:
        held = {name for name in file.keys() if name.endswith("lora_A.weight")}  # noqa: SIM118
    assert len(held) == layers


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_model_has_as_many_weights_as_transformers_loads(tmp_path, tied):
    folder = make_base(tmp_path / "base", tie_word_embeddings=tied)
    loaded = sum(parameter.numel() for parameter in load_model(folder).parameters())
    assert model_weights(BaseStructure.read(folder)) == loaded


def test_products_of_the_demos_updates_are_those_of_its_changes_in_fp64(demo_base, tmp_path):
    chosen = [adapter.repo_id for adapter in POOL[:4]]
    chosen.append(next(adapter.repo_id for adapter in POOL if adapter.rslora))
    folders = {name: COMMITTED / name for name in dict.fromkeys(chosen)}
    names = list(folders)
    store = stored(tmp_path / "store", demo_base, folders)
    shapes = {}
    for folder in folders.values():
        for module, own in factors(folder).items():
            shapes[module] = len(own["B"]), own["A"].shape[1]
    expected = np.zeros((len(names), len(names)))
    for module, shape in shapes.items():
        made = np.stack([changes(folder, {module: shape}) for folder in folders.values()])
        expected += made @ made.T
    found = update_products(store, names, names)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())
    np.testing.assert_allclose(cosines(found), cosines(expected), atol=1e-6)
