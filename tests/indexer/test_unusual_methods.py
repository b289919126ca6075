"""Methods whose factors have other shapes than LoRA's, from a folder to an answer as PEFT's."""

import numpy as np
import peft
import pytest
import torch
from families import load_model, make_adapter

from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.keys import AdapterName

METHODS = {
    "BD-LoRA": peft.LoraConfig(
        r=4,
        target_modules=["q_proj", "o_proj"],
        use_bdlora=peft.BdLoraConfig(
            target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2
        ),
    ),
    # LyCORIS writes such a rank for factors that are whole.
    "LoKr of whole factors": peft.LoKrConfig(r=100_000, alpha=1e5, target_modules=["q_proj"]),
    "LoKr with a pattern": peft.LoKrConfig(
        r=2, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 100_000}
    ),
    # PEFT cuts their ranks down to the layer's size.
    "AdaMSS": peft.AdamssConfig(r=1000, target_modules=["q_proj"]),
    "TinyLoRA": peft.TinyLoraConfig(r=1000, target_modules=["q_proj"]),
    "DEFT": peft.DeftConfig(r=1000, target_modules=["q_proj"]),
}


@pytest.mark.parametrize("method", METHODS)
def test_it_is_embedded_as_peft_does(method, tmp_path, base):
    folder = make_adapter(tmp_path / "adapter", base.folder, config=METHODS[method])
    row = describe_folder(AdapterName(folder.as_posix()), base.folder.as_posix(), run_id="r")
    obtainer = Obtainer(None, base, tmp_path / "downloads", max_bytes=10**9)
    inspected = obtainer.inspect(Pending(row, 1))
    obtainer.fetch(inspected)
    adapter = obtainer.read(inspected)

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, answer),) = engine.answers([adapter])

    model = peft.PeftModel.from_pretrained(load_model(base.folder), folder).eval()
    with torch.no_grad():
        states = [model.base_model.model.model(input_ids=probe) for probe in base.probes]
    expected = np.stack([state.last_hidden_state[0, -1].numpy() for state in states])
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)
    assert answer.signal > 1000
