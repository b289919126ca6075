"""How often an adapter may have the base's layers repeated."""

import json

import peft
import pytest
import torch
from families import make_adapter
from safetensors.torch import load_file

from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

BASE_LAYERS = 2


def config(**settings):
    return peft.LoraConfig(r=4, target_modules=["q_proj"], **settings)


@pytest.fixture
def obtained(tmp_path, base):
    """What becomes of an adapter whose config asks for layers after it was saved."""

    def obtain(written, layer_replication=None, *, as_pickle=False):
        folder = make_adapter(tmp_path / "adapter", base.folder, config=written)
        if layer_replication is not None:
            file = folder / "adapter_config.json"
            said = json.loads(file.read_text()) | {"layer_replication": layer_replication}
            file.write_text(json.dumps(said))
        if as_pickle:
            weights = folder / "adapter_model.safetensors"
            torch.save(load_file(weights), weights.with_suffix(".bin"))
            weights.unlink()
        row = describe_folder(AdapterName(folder.as_posix()), base.folder.as_posix(), run_id="r")
        obtainer = Obtainer(None, base, tmp_path / "downloads", max_bytes=10**9)
        inspected = obtainer.inspect(Pending(row, 1))
        obtainer.fetch(inspected)
        return obtainer.read(inspected)

    return obtain


@pytest.mark.parametrize(
    "settings",
    [
        {"layer_replication": [[0, 2], [1, 2]]},
        {"layer_replication": [[-1, 2], [0, 0]]},
        {"layer_replication": [[0, 2]] * 20},
        {"layer_replication": [[0, 2]] * 4, "layers_to_transform": [1, 7]},
        {"layer_replication": []},
    ],
    ids=["once more", "from the end", "often", "few of them adapted", "not at all"],
)
def test_what_peft_saves_is_read(settings, obtained):
    written = config(**settings)
    assert obtained(written).config.values["layer_replication"] == settings["layer_replication"]


@pytest.mark.parametrize("as_pickle", [False, True], ids=["safetensors", "pickle"])
def test_layers_that_no_tensor_belongs_to_are_refused(as_pickle, obtained):
    with pytest.raises(AdapterError, match="layer_replication asks for 40,000 layers") as failure:
        obtained(config(), [[0, BASE_LAYERS]] * 20_000, as_pickle=as_pickle)
    assert failure.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    "asked",
    [[[-5, 2]], [[0, 10**9]], [[0, 3]], [[0, 1], [2, 3]]],
)
def test_layers_that_the_base_does_not_have_are_named(asked, obtained):
    with pytest.raises(AdapterError, match=r"layer_replication asks for layers .* of 2") as failure:
        obtained(config(), asked)
    assert failure.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("asked", ["all", 5, [1], [[0]], [[0, 1, 2]], [["0", 2]], [[0, 1.5]]])
def test_what_is_no_list_of_layers_is_named(asked, obtained):
    with pytest.raises(AdapterError, match=r"layer_replication is .*, not a list") as failure:
        obtained(config(), asked)
    assert failure.value.reason is Reason.CORRUPT
