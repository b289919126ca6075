"""Kinds of adapters that must be computed exactly, each a line: a PEFT class and its settings.

A kind is random where adapters of it differ: hypothesis draws ranks, targets and switches. The
pairs of family and kind that cannot be had are in `LEFT_OUT`, with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import peft
import torch
from families import Family
from hypothesis import strategies as st

Settings = dict[str, st.SearchStrategy[Any]]

_RANK = st.integers(1, 12)
_ALPHA = st.integers(1, 24)
_SWITCH = st.booleans()
_YES = st.just(True)


@dataclass(frozen=True)
class Kind:
    """A kind of adapter.

    Attributes:
        name: what it is called in the tests.
        config: PEFT's class for it.
        settings: what to draw for a family, and for the tokens that all of its probes hold.
        examples: how many are made for a family; more where much can be set.
        scale: standard deviation of its random weights.
        stored: dtypes that its file may hold.
    """

    name: str
    config: Callable[..., peft.PeftConfig]
    settings: Callable[[Family, list[int]], Settings]
    examples: int = 1
    scale: float = 0.1
    stored: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)

    def draw(
        self, family: Family, tokens: list[int]
    ) -> st.SearchStrategy[tuple[dict[str, Any], torch.dtype]]:
        """Settings, and the dtype that the file holds."""
        settings = st.fixed_dictionaries(self.settings(family, tokens))
        return st.tuples(settings, st.sampled_from(self.stored))

    def __str__(self) -> str:
        return self.name


def _some(names: tuple[str, ...], *, at_least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=at_least, unique=True)


def _one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def _regex(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """A pattern of some of the layers' full names, in one or in both transformer layers."""
    some = _some(names, at_least=2)
    return st.builds(
        lambda layer, some: layer + "(" + "|".join(some) + ")", _one_of(r".*\.1\..*", r".*"), some
    )


def _patterns(names: tuple[str, ...], values: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """Other values for some of the layers, named as in a rank_pattern: by last words or regex."""
    keys = st.builds(str.__add__, _one_of("", r"^.*\.0\..*", r".*\.1\..*"), _one_of(*names))
    # Where several patterns match, PEFT takes the first, and it sorts them when it saves.
    drawn = st.dictionaries(keys, values, min_size=1, max_size=3)
    return drawn.map(lambda patterns: dict(sorted(patterns.items())))


def _lora(name: str, settings: Callable[[Family], Settings], **attributes: Any) -> Kind:
    """A kind of LoRA: what it sets, beside or in place of what all LoRA sets."""

    def all_settings(family: Family, _: list[int]) -> Settings:
        common: Settings = {
            "r": _RANK,
            "lora_alpha": _ALPHA,
            "target_modules": _some(family.linear),
            "lora_dropout": _one_of(0.0, 0.1),  # acts in training only
            "init_lora_weights": _one_of(True, False, "gaussian"),
        }
        return common | settings(family)

    return Kind(name, peft.LoraConfig, all_settings, **attributes)


def _lycoris(family: Family) -> Settings:
    return {
        "r": _RANK,
        "alpha": _ALPHA,
        "target_modules": _some(family.linear),
        "rank_pattern": st.just({}) | _patterns(family.linear, _RANK),
        "alpha_pattern": st.just({}) | _patterns(family.linear, _ALPHA),
        "rank_dropout": _one_of(0.0, 0.1),
        "module_dropout": _one_of(0.0, 0.1),
    }


def _tokens(tokens: list[int]) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from(tokens), min_size=1, unique=True)


KINDS = (
    _lora("lora", lambda _: {}, examples=2),
    _lora("rslora", lambda _: {"use_rslora": _YES}),
    _lora(
        "rank pattern",
        lambda f: {
            "target_modules": st.just(list(f.linear)),
            "rank_pattern": _patterns(f.linear, _RANK),
            "use_rslora": _SWITCH,
        },
        examples=2,
    ),
    _lora(
        "alpha pattern",
        lambda f: {
            "target_modules": st.just(list(f.linear)),
            "alpha_pattern": _patterns(f.linear, _ALPHA),
            "use_rslora": _SWITCH,
        },
    ),
    _lora("dora", lambda _: {"use_dora": _YES, "use_rslora": _SWITCH}, examples=2),
    _lora("dora with biases", lambda _: {"use_dora": _YES, "bias": _one_of("all", "lora_only")}),
    _lora("bias all", lambda _: {"bias": st.just("all")}),
    _lora("bias lora_only", lambda _: {"bias": st.just("lora_only")}),
    _lora("lora_bias", lambda _: {"lora_bias": _YES, "init_lora_weights": _SWITCH}),
    _lora(
        "saved embedding",
        lambda f: {"modules_to_save": st.just([f.embedding]), "ensure_weight_tying": _SWITCH},
    ),
    _lora("saved norm", lambda f: {"modules_to_save": _some(f.norms)}),
    _lora(
        "saved linear layer",  # which is no longer a target then
        lambda f: {
            "target_modules": st.just(list(f.linear)),
            "modules_to_save": _some(f.linear[1:]),
        },
    ),
    _lora("saved output layer", lambda _: {"modules_to_save": st.just(["lm_head"])}),
    _lora(
        "saved embedding and output layer",
        lambda f: {"modules_to_save": st.just([f.embedding, "lm_head"])},
    ),
    _lora(
        "lora on embedding",
        lambda f: {
            "target_modules": _some((f.embedding, *f.attention), at_least=2),
            "use_rslora": _SWITCH,
        },
    ),
    _lora("lora on embedding alone", lambda f: {"target_modules": st.just([f.embedding])}),
    _lora(
        "dora on embedding",
        lambda f: {"target_modules": st.just([f.embedding, f.attention[0]]), "use_dora": _YES},
    ),
    _lora(
        "lora on output layer",
        lambda f: {"target_modules": st.just(["lm_head", f.attention[0]])},
        # PEFT saves the frozen layer too, and on loading would round an embedding tied to it.
        stored=(torch.float32,),
    ),
    _lora("fan_in_fan_out", lambda _: {"fan_in_fan_out": _SWITCH}),
    _lora(
        "some layers",
        lambda f: {
            "layers_to_transform": _one_of(0, 1, [0], [1]),
            "layers_pattern": _one_of(f.layers, [f.layers]),
        },
    ),
    _lora(
        "excluded modules",
        lambda f: {
            "target_modules": st.just(list(f.linear)),
            "exclude_modules": _some(f.linear[1:]) | _regex(f.linear[1:]),
        },
    ),
    _lora("all-linear", lambda _: {"target_modules": st.just("all-linear"), "use_dora": _SWITCH}),
    _lora("regex", lambda f: {"target_modules": _regex(f.linear)}),
    _lora(
        "lora of everything",
        lambda f: {
            "target_modules": _some((*f.linear, *f.own_embedding), at_least=2),
            "use_rslora": _SWITCH,
            "use_dora": _SWITCH,
            "bias": _one_of("none", "all", "lora_only"),
            "rank_pattern": _patterns(f.linear, _RANK),
            "alpha_pattern": _patterns(f.linear, _ALPHA),
            "modules_to_save": _some((*f.norms, "lm_head")),
        },
        examples=3,
    ),
    Kind(
        "trainable tokens in lora",
        peft.LoraConfig,
        lambda f, tokens: {
            "r": _RANK,
            "target_modules": _some(f.linear),
            "trainable_token_indices": _tokens(tokens)
            | st.fixed_dictionaries({f.embedding: _tokens(tokens)}),
        },
    ),
    Kind(
        "trainable tokens",
        peft.TrainableTokensConfig,
        lambda f, tokens: {
            "token_indices": _tokens(tokens),
            "target_modules": _one_of(None, [f.embedding]),
        },
    ),
    Kind("ln tuning", peft.LNTuningConfig, lambda f, _: {"target_modules": _some(f.norms)}),
    Kind(
        "ia3",
        peft.IA3Config,
        lambda f, _: {"target_modules": _some(f.linear), "feedforward_modules": st.just([])},
    ),
    Kind(
        "ia3 with feedforward",  # whose inputs are scaled, in place of its outputs
        peft.IA3Config,
        lambda f, _: {
            "target_modules": st.just(list(f.linear)),
            "feedforward_modules": _some(f.linear),
        },
    ),
    Kind(
        "ia3 with a saved module",
        peft.IA3Config,
        lambda f, _: {
            "target_modules": st.just([f.attention[0]]),
            "feedforward_modules": st.just([]),
            "modules_to_save": _some((*f.norms, *f.own_embedding)),
        },
    ),
    Kind(
        "vera",
        peft.VeraConfig,
        lambda f, _: {
            "r": _RANK,
            "target_modules": _some(f.linear),
            "projection_prng_key": st.integers(0, 99),
            "bias": _one_of("none", "all", "vera_only"),
        },
    ),
    # A change made of four factors is small if they are.
    Kind("loha", peft.LoHaConfig, lambda f, _: _lycoris(f), scale=0.3),
    Kind(
        "lokr",
        peft.LoKrConfig,
        lambda f, _: (
            _lycoris(f)
            | {
                "r": st.integers(1, 6),  # at more, PEFT no longer factorizes layers of this size
                "decompose_both": _SWITCH,
                "decompose_factor": _one_of(-1, 2, 4, 8),
            }
        ),
        examples=3,
    ),
    Kind(
        "adalora",
        peft.AdaLoraConfig,
        lambda f, _: {
            "init_r": _RANK,
            "lora_alpha": _ALPHA,
            "total_step": st.just(100),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "delora",
        peft.DeloraConfig,
        lambda f, _: {
            "r": _RANK,
            "delora_lambda": st.integers(1, 20),
            "rank_pattern": _patterns(f.linear, _RANK),
            "lambda_pattern": _patterns(f.linear, st.integers(1, 20)),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "gralora",
        peft.GraloraConfig,
        lambda f, _: {
            "r": _one_of(4, 8),
            "gralora_k": _one_of(2, 4),
            "hybrid_r": _one_of(0, 3),
            "alpha": _ALPHA,
            "target_modules": _some(f.linear),
        },
        examples=2,
    ),
    Kind(
        "miss",
        peft.MissConfig,
        lambda f, _: {
            "r": _RANK,
            "init_weights": _one_of(True, False),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "mini miss",
        peft.MissConfig,
        lambda f, _: {
            "r": _one_of(4, 8),
            "mini_r": _one_of(2, 4),
            "init_weights": st.just("mini"),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "hra",
        peft.HRAConfig,
        lambda f, _: {"r": _RANK, "apply_GS": _SWITCH, "target_modules": _some(f.linear)},
        examples=2,
    ),
    Kind(
        "hira",
        peft.HiraConfig,
        lambda f, _: {
            "r": _RANK,
            "target_modules": _some(f.linear),
        },
        scale=0.5,
    ),
    Kind(
        "vblora",
        peft.VBLoRAConfig,
        lambda f, _: {
            "r": _RANK,
            "num_vectors": st.integers(8, 40),
            "vector_length": _one_of(4, 8),
            "topk": _one_of(1, 2, 3),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "c3a",
        peft.C3AConfig,
        lambda f, _: {"block_size": _one_of(4, 8), "target_modules": _some(f.linear)},
        scale=0.5,
    ),
    Kind(
        "fourierft",
        peft.FourierFTConfig,
        lambda f, _: {
            "n_frequency": st.integers(1, 200),
            "scaling": st.integers(100, 300),
            "random_loc_seed": st.integers(0, 999),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "oft",
        peft.OFTConfig,
        lambda f, _: {
            "r": st.just(0),
            "oft_block_size": _one_of(4, 8),
            "block_share": _SWITCH,
            "use_cayley_neumann": _SWITCH,
            "num_cayley_neumann_terms": _one_of(3, 4, 5, 7),
            "target_modules": _some(f.linear),
        },
        examples=3,
    ),
    Kind(
        "boft",
        peft.BOFTConfig,
        lambda f, _: {
            "boft_block_size": _one_of(4, 8),
            "bias": _one_of("none", "all", "boft_only"),
            "target_modules": _some(f.linear),
        },
        scale=1.0,  # its scales are around one
    ),
    Kind(
        "boft by number",
        peft.BOFTConfig,
        lambda f, _: {
            "boft_block_size": st.just(0),
            "boft_block_num": _one_of(4, 8),
            "target_modules": _some(f.linear),
        },
        scale=1.0,
    ),
    Kind(
        "shira",
        peft.ShiraConfig,
        lambda f, _: {
            "r": st.integers(1, 5),
            "random_seed": st.integers(0, 99),
            "target_modules": _some(f.linear),
        },
    ),
    Kind(
        "waveft",
        peft.WaveFTConfig,
        lambda f, _: {
            "n_frequency": st.integers(1, 200),
            "scaling": st.integers(10, 40),
            "random_loc_seed": st.integers(0, 999),
            "wavelet_family": _one_of("db1", "db2", "sym3", "coif1"),
            "use_idwt": _SWITCH,
            "target_modules": _some(f.linear),
        },
        examples=3,
    ),
    Kind(
        "randlora",
        peft.RandLoraConfig,
        lambda f, _: {
            "r": st.integers(2, 12),
            "randlora_alpha": st.integers(1, 20),
            "projection_prng_key": st.integers(0, 99),
            "sparse": _SWITCH,
            "target_modules": _some(f.linear),
        },
        examples=2,
    ),
    Kind(
        "road",
        peft.RoadConfig,
        lambda f, _: {
            "variant": _one_of("road_1", "road_2", "road_4"),
            "group_size": _one_of(4, 8),
            "target_modules": _some(f.linear),
        },
        examples=3,
        scale=1.0,  # its factors are around one
    ),
)

_NOT_OF_CONV1D = (
    *("loha", "lokr", "delora", "miss", "mini miss", "hra", "c3a", "road", "oft", "shira"),
    *("boft", "boft by number"),
)

LEFT_OUT: Mapping[tuple[str, str], str] = {
    **{("gpt2", kind): "PEFT has no such layer for Conv1D" for kind in _NOT_OF_CONV1D},
    ("mixtral", "all-linear"): "PEFT makes it LoRA of experts, which takes no dropout and no DoRA",
    ("mt5", "saved linear layer"): "PEFT takes k for the end of any name, as of block",
}
"""(family, kind) → why it is not tested."""


_OF_THE_EMBEDDING = frozenset(
    {
        "saved embedding",
        "saved embedding and output layer",
        "lora on embedding",
        "lora on embedding alone",
        "dora on embedding",
        "trainable tokens in lora",
        "trainable tokens",
    }
)
"""Where encoder and decoder share its table they are the reference engine's, see the routing."""


def is_tested(family: Family, kind: Kind) -> bool:
    if family.embedding_is_shared and kind.name in _OF_THE_EMBEDDING:
        return False
    return (family.model_type, kind.name) not in LEFT_OUT


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)
