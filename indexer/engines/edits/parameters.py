"""LoRA of single parameters (PEFT's target_parameters): experts' weights, routers, tables."""

from dataclasses import replace

import torch
from torch import nn

from hubdelta.indexer.engines.edits.edits import (
    DenseEdit,
    Edit,
    ExpertsEdit,
    LowRank,
    LowRankExperts,
    ParameterEdit,
    TableEdit,
)
from hubdelta.indexer.engines.edits.site import Site
from hubdelta.indexer.engines.edits.structure import is_dense

_DOWN, _UP = "lora_A.weight", "lora_B.weight"

OF_A_PARAMETER = f".{_DOWN}"
"""How a part's name ends that belongs to a parameter: parameter.lora_A.weight."""


def parameters_edit(site: Site, tokens: torch.Tensor) -> Edit:
    """How LoRA changes parameters of a module.

    PEFT's ParamWrapper (tuners/lora/layer.py) adds scale · B A to a matrix of any module, and to
    each expert's matrix where a parameter holds those of all experts.

    Args:
        site: of the module; its parts are called parameter.lora_A.weight.
        tokens: ids of the wanted rows of an embedding, int64 [tokens].

    Raises:
        AdapterError: a tensor does not fit, or is missing.
    """
    firsts = [part for part in site.names if part.endswith(OF_A_PARAMETER)]
    names = [part.removesuffix(OF_A_PARAMETER) for part in firsts]
    if all(_parameter(site, name).dim() == 3 for name in names):
        return ExpertsEdit({name: _of_experts(site, name) for name in names})
    products = {name: _of_matrix(site, name) for name in names}
    if is_dense(site.module):
        product = products["weight"]
        if not isinstance(site.module, nn.Linear):  # a Conv1D's weight is [in, out]
            product = LowRank(product.up.T, product.down.T, product.scale)
        return DenseEdit(low_rank=product)
    if isinstance(site.module, nn.Embedding):
        product, own = products["weight"], site.module.weight.detach()
        places = tokens.cpu()
        changes = product.scale * product.up[places].float() @ product.down.float()
        return TableEdit(own[tokens.to(own.device)].cpu().float() + changes)
    return ParameterEdit(
        {
            name: _parameter(site, name).detach().cpu().float()
            + product.scale * product.up.float() @ product.down.float()
            for name, product in products.items()
        }
    )


def _parameter(site: Site, name: str) -> nn.Parameter:
    return dict(site.module.named_parameters(recurse=False))[name]


def _rank_and_scale(site: Site, name: str) -> tuple[int, float]:
    return replace(site, name=f"{site.name}.{name}").rank_and_scale()


def _of_matrix(site: Site, name: str) -> LowRank:
    rank, scale = _rank_and_scale(site, name)
    rows, columns = _parameter(site, name).shape
    down = site.shaped(f"{name}.{_DOWN}", (rank, columns))
    return LowRank(down, site.shaped(f"{name}.{_UP}", (rows, rank)), scale)


def _of_experts(site: Site, name: str) -> LowRankExperts:
    rank, scale = _rank_and_scale(site, name)
    experts, rows, columns = _parameter(site, name).shape
    # As PEFT: where the module says so, the parameters are [experts, in, out].
    is_transposed = getattr(site.module, "is_transposed", False)
    inputs, outputs = (rows, columns) if is_transposed else (columns, rows)
    a = site.shaped(f"{name}.{_DOWN}", (rank * experts, inputs)).view(experts, rank, inputs)
    b = site.shaped(f"{name}.{_UP}", (outputs, rank * experts))
    b = b.view(outputs, rank, experts).permute(2, 0, 1)
    return LowRankExperts(a.mT, b.mT, scale) if is_transposed else LowRankExperts(b, a, scale)
