"""The stacked engine leaves out what the last token's hidden state does not need."""

from hubdelta.indexer.engines.stacked.model import StackedModel


def test_what_follows_the_last_attention_is_computed_for_the_last_token_alone(base):
    model = StackedModel(base)

    trimmed = {
        name: standin.last_token_only
        for name, standin in model._standins.items()
        if hasattr(standin, "last_token_only")
    }

    last = "model.layers.1."
    for part in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        assert trimmed[last + part]
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "input_layernorm"):
        assert not trimmed[last + part]
    assert not any(here for name, here in trimmed.items() if not name.startswith(last))
    tokens = sum(probe.shape[1] for probe in base.probes)
    assert model.dense_flops < 2 * tokens * model.dense_numbers
