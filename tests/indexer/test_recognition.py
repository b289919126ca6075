"""Adapters that are like one that was seen before: what was found for that one holds for them."""

import json
from pathlib import Path

import numpy as np
import pytest
from families import make_adapter
from safetensors.torch import load_file, save_file

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def rename(folder: Path) -> None:
    """Give tensors the names that they have in an image-text model."""
    tensors = load_file(folder / WEIGHTS)
    inner = f"{PREFIX}model.language_model."
    named = {name.replace(f"{PREFIX}model.", inner): tensor for name, tensor in tensors.items()}
    save_file(named, folder / WEIGHTS)


def with_config(folder: Path, **settings: object) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.fixture
def obtainer(base, tmp_path):
    return Obtainer(None, base, tmp_path / "downloads", max_bytes=10**9)


def obtained(obtainer: Obtainer, folder: Path) -> PeftAdapter:
    row = describe_folder(AdapterName(str(folder)), "org/base", run_id="run")
    inspected = obtainer.inspect(Pending(row, 1))
    obtainer.fetch(inspected)
    adapter = obtainer.read(inspected)
    assert isinstance(adapter, PeftAdapter)
    return adapter


@pytest.mark.parametrize("renamed", [False, True], ids=["own names", "other names"])
def test_each_keeps_its_own_numbers_and_settings(renamed, obtainer, tiny_base, tmp_path, engine):
    adapters = []
    for number, alpha in enumerate([8, 3, 20]):
        folder = make_adapter(tmp_path / str(number), tiny_base, r=4, lora_alpha=alpha, seed=number)
        targets = ["v_proj", "q_proj"] if number % 2 else ["q_proj", "v_proj"]
        with_config(folder, target_modules=targets, base_model_name_or_path=f"org/{number}")
        if renamed:
            rename(folder)
        adapters.append(obtained(obtainer, folder))
    stacked = StackedEngine(obtainer.base)

    answers = dict(stacked.answers(adapters))

    assert len(obtainer._fits._known) == 1
    assert len(stacked._reader._plans) == 1
    for place, adapter in enumerate(adapters):
        assert adapter.config.values["lora_alpha"] == [8, 3, 20][place]
        assert adapter.config.values["base_model_name_or_path"] == f"org/{place}"
        ((_, exact),) = engine.answers([adapter])
        np.testing.assert_allclose(
            answers[place].activations, exact.activations, rtol=1e-4, atol=1e-5
        )
    assert not np.allclose(answers[0].activations, answers[1].activations, atol=1e-3)


def test_the_same_file_under_other_settings_is_judged_by_these(obtainer, tiny_base, tmp_path):
    good = make_adapter(tmp_path / "good", tiny_base, r=4)
    other = make_adapter(tmp_path / "other", tiny_base, r=4)
    with_config(other, r=8)
    engine = StackedEngine(obtainer.base)

    list(engine.answers([obtained(obtainer, good)]))

    with pytest.raises(AdapterError) as failure:
        obtained(obtainer, other)
    assert failure.value.reason is Reason.CORRUPT


def test_numbers_that_are_not_finite_are_found_in_a_block_that_was_recognized(
    obtainer, tiny_base, tmp_path
):
    obtained(obtainer, make_adapter(tmp_path / "good", tiny_base))
    bad = make_adapter(tmp_path / "bad", tiny_base)
    tensors = load_file(bad / WEIGHTS)
    name = sorted(tensors)[3]
    tensors[name][0, 0] = float("nan")
    save_file(tensors, bad / WEIGHTS)

    with pytest.raises(AdapterError, match=name) as failure:
        obtained(obtainer, bad)
    assert failure.value.reason is Reason.NOT_FINITE


def test_a_setting_of_a_later_peft_is_refused_whoever_came_before(obtainer, tiny_base, tmp_path):
    """An earlier version's unknown settings do nothing, a later one's may."""
    folders = [make_adapter(tmp_path / str(number), tiny_base) for number in range(2)]
    for folder, peft_version in zip(folders, ["0.1.0", "999.0"], strict=True):
        with_config(folder, use_something=True, peft_version=peft_version)
    engine = StackedEngine(obtainer.base)

    answers = dict(engine.answers([obtained(obtainer, folder) for folder in folders]))

    assert isinstance(answers[0], Answer)
    assert isinstance(answers[1], AdapterError)
    assert answers[1].reason is Reason.UNSUPPORTED_ADAPTER
