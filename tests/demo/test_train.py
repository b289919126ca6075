"""Training is deterministic, and its splits share nothing."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hubdelta.demo.pool import POOL, PooledAdapter
from hubdelta.demo.sources import DOMAINS, SPLITS
from hubdelta.demo.train import train_adapter

# networkx is installed with torch, so its domain can be read without fetching any package.
SITE = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def small_base(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of 16 dimensions with the real tokenizer."""
    folder = tmp_path_factory.mktemp("small")
    config = AutoConfig.for_model(
        "llama", vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo_base).save_pretrained(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def plan() -> PooledAdapter:
    return next(adapter for adapter in POOL if adapter.data == (("python", 0),))


@pytest.fixture(scope="module")
def trained(
    plan: PooledAdapter, small_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files that training by the plan gives."""
    return files(train_adapter(plan, small_base, SITE, tmp_path_factory.mktemp("trained")))


def test_same_plan_trains_the_same_bytes(
    plan: PooledAdapter, trained: dict[str, bytes], small_base: Path, tmp_path: Path
) -> None:
    assert files(train_adapter(plan, small_base, SITE, tmp_path)) == trained


def test_another_split_trains_other_weights(
    plan: PooledAdapter, trained: dict[str, bytes], small_base: Path, tmp_path: Path
) -> None:
    other = replace(plan, data=(("python", 1),))
    found = files(train_adapter(other, small_base, SITE, tmp_path))
    name = "adapter_model.safetensors"
    assert found[name] != trained[name]


def test_splits_of_a_domain_are_disjoint_and_fixed() -> None:
    python = DOMAINS["python"]
    splits = [python.split(SITE, number, 90) for number in range(SPLITS)]
    assert len({example for split in splits for example in split}) == SPLITS * 90
    assert splits == [python.split(SITE, number, 90) for number in range(SPLITS)]


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        DOMAINS["python"].split(SITE, 0, 100_000)
