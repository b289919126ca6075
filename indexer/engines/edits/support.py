"""Which adapters the stacked engine computes exactly: a table of PEFT types and their settings.

An adapter whose type has no row here, or with a setting that its row does not list, goes to the
reference engine. So a setting introduced by a later PEFT is never misread.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import peft

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.peft_config import INITS_THAT_KEEP_THE_BASE

_EVERYWHERE = frozenset(
    {
        # where it came from and how it was trained
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "runtime_config",
        # which modules it changes: the names of its tensors say so, and are checked against these
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
    }
)

UNDERSTOOD: Mapping[str, frozenset[str]] = {
    "LORA": _EVERYWHERE
    | {
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "bias",
        "lora_bias",
        "trainable_token_indices",
        "fan_in_fan_out",
        "ensure_weight_tying",  # concerns the output layer, which is not needed
        "target_parameters",
        "init_lora_weights",  # only those that leave the base alone, see `is_exact`
        "lora_dropout",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "qalora_group_size",
    },
    "IA3": _EVERYWHERE | {"feedforward_modules", "fan_in_fan_out", "init_ia3_weights"},
    "VERA": _EVERYWHERE
    | {"r", "projection_prng_key", "vera_dropout", "d_initial", "fan_in_fan_out", "bias"}
    | {"init_weights"},
    "LOHA": _EVERYWHERE
    | {"r", "alpha", "rank_pattern", "alpha_pattern", "rank_dropout", "module_dropout"}
    | {"init_weights", "use_effective_conv2d"},
    "LOKR": _EVERYWHERE
    | {"r", "alpha", "rank_pattern", "alpha_pattern", "rank_dropout", "module_dropout"}
    | {"init_weights", "use_effective_conv2d", "rank_dropout_scale"}
    | {"decompose_both", "decompose_factor"},
    # PEFT's AdaLoRA has all settings of LoRA, and ignores r.
    "ADALORA": _EVERYWHERE
    | {"r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "init_lora_weights"}
    | {"loftq_config", "eva_config", "corda_config", "lora_ga_config"}
    | {"megatron_config", "megatron_core", "qalora_group_size"}
    | {"target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2"}
    | {"orth_reg_weight", "total_step"},
    "DELORA": _EVERYWHERE
    | {"r", "delora_lambda", "module_dropout", "init_weights", "rank_pattern", "lambda_pattern"},
    "GRALORA": _EVERYWHERE
    | {"r", "hybrid_r", "alpha", "gralora_dropout", "gralora_k", "fan_in_fan_out", "init_weights"},
    "MISS": _EVERYWHERE | {"r", "miss_dropout", "mini_r", "init_weights"},
    "HRA": _EVERYWHERE | {"r", "apply_GS", "init_weights"},
    "HIRA": _EVERYWHERE | {"r", "hira_dropout", "fan_in_fan_out", "init_weights"},
    "VBLORA": _EVERYWHERE
    | {"r", "num_vectors", "vector_length", "topk", "vblora_dropout", "fan_in_fan_out"}
    | {"init_vector_bank_bound", "init_logits_std"},
    "C3A": _EVERYWHERE | {"block_size", "init_weights"},
    "FOURIERFT": _EVERYWHERE
    | {"n_frequency", "scaling", "random_loc_seed", "fan_in_fan_out"}
    | {"init_weights"},
    "ROAD": _EVERYWHERE | {"variant", "group_size", "init_weights"},
    "OFT": _EVERYWHERE
    | {"r", "oft_block_size", "module_dropout", "fan_in_fan_out", "init_weights", "block_share"}
    | {"use_cayley_neumann", "num_cayley_neumann_terms", "eps"},  # eps acts with coft
    "BOFT": _EVERYWHERE
    | {"boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "boft_dropout", "bias"}
    | {"fan_in_fan_out", "init_weights"},
    "SHIRA": _EVERYWHERE | {"r", "mask_type", "random_seed", "fan_in_fan_out", "init_weights"},
    "WAVEFT": _EVERYWHERE
    | {"n_frequency", "scaling", "wavelet_family", "random_loc_seed", "use_idwt"}
    | {"fan_in_fan_out", "init_weights"},
    "RANDLORA": _EVERYWHERE
    | {"r", "projection_prng_key", "sparse", "very_sparse", "randlora_dropout", "randlora_alpha"}
    | {"fan_in_fan_out", "init_weights"},
    "LN_TUNING": _EVERYWHERE,
    "TRAINABLE_TOKENS": _EVERYWHERE | {"token_indices", "init_weights"},
}
"""PEFT type → the settings that the stacked engine implements; all others must be unset.

What is left to the reference engine, and why:

| setting or type | why |
|---|---|
| prompt tuning, prefix tuning, p-tuning, CPT | adds tokens, so batch mates would differ in length |
| alora_invocation_tokens | acts from a token on that the prompt may lack |
| init_lora_weights: pissa, olora, corda, loftq, ... | subtracts its start from the base's weights |
| layer_replication | changes the number of layers |
| VeRA with save_projection=False | its projections come from a random generator, not the file |
| use_bdlora, arrow_config, velora_config, kasa_config, ... | other arithmetic |
| AdaLoRA with rank_pattern | parts of its tensors were pruned after training |
| MiSS with init_weights=bat | multiplies blocks of the base's weight |
| VB-LoRA with save_only_topk_weights | its file holds no logits |
| HiRA with rank_pattern, C3A, FourierFT and WaveFT with theirs | PEFT compares keys in other ways |
| WaveFT with proportional_parameters | counts its values over the whole model |
| OFT with coft | changes its own factors in each pass |
| RandLoRA with save_projection=False | as VeRA |
| X-LoRA, Poly, ... | other arithmetic |
"""

OF_WHOLE_MATRICES = frozenset(
    {"BOFT", "C3A", "FOURIERFT", "HIRA", "OFT", "RANDLORA", "ROAD", "SHIRA", "WAVEFT"}
)
"""PEFT types whose edit of a layer is as large as its weight."""


def is_exact(config: AdapterConfig) -> bool:
    """Whether every setting of a configuration is one that the stacked engine understands."""
    understood = UNDERSTOOD.get(config.peft_type)
    if understood is None:
        return False
    if config.values.get("init_lora_weights", True) not in INITS_THAT_KEEP_THE_BASE:
        return False
    if config.peft_type == "MISS" and config.values.get("init_weights") == "bat":
        return False
    defaults = _defaults(config.peft_type)
    return all(
        key in understood
        or key not in defaults
        or value == defaults[key]
        or (not value and not defaults[key])  # an empty list means the same as none
        for key, value in config.values.items()
    )


def _defaults(peft_type: str) -> dict[str, Any]:
    """PEFT's defaults of the settings of a type; unknown keys were checked before."""
    config_class = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft_type]
    return {
        spec.name: spec.default if spec.default_factory is MISSING else spec.default_factory()
        for spec in fields(config_class)
    }
