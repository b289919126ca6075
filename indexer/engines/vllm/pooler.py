"""vLLM's own engine in this process, returning hidden states of probes under loaded adapters."""

import math
import os
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedConfig

from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.engines.engine import Activations
from hubdelta.schemas.errors import HubdeltaError, MissingExtraError, UsageError

DTYPES: Final = {
    "auto": "auto",
    "fp32": "float32",
    "tf32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
}
"""Precision → vLLM's name for it."""

_PRECISIONS: Final = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

_ENVIRONMENT: Final = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other engines share this process
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would inherit threads' locks
}
"""Settings that vLLM reads only from the environment; variables already set are kept."""

_IDS: Final = count(1)
"""Ids of loaded adapters. vLLM identifies an adapter by its id alone and would answer a reused id
with the first adapter that had it, so ids are never reused within the process."""

_KV_BLOCK = 128
"""The most tokens per block of vLLM's key-value cache, as on CPUs."""


def check_installed() -> None:
    """Raise MissingExtraError if vLLM is not installed."""
    package = find_spec("vllm")
    if package is None or package.origin is None:  # any folder of that name has a spec, but no file
        raise MissingExtraError("the vllm engine", "vllm")


class Pooler:
    """A base in vLLM, and the adapters loaded with it.

    Args:
        folder: a transformers folder of the base.
        config: its config.json.
        probes: token ids of each probe.
        precision: one of `DTYPES`.
        tensor_parallel: GPUs that share each layer.
        max_loras: adapters that can be loaded at a time.
        max_rank: the maximum rank; a value that vLLM accepts.
        gpu_memory: share of a GPU's memory that must be free; None for vLLM's default.

    Attributes:
        dtype: in which it computes.
        precision: fp32, fp16 or bf16; or tf32, which vLLM's LoRA kernels use for fp32 on a GPU.

    Raises:
        MissingExtraError: vLLM is not installed.
        UsageError: the precision does not exist here.
        HubdeltaError: vLLM cannot run this base on this machine.
    """

    def __init__(
        self,
        folder: Path,
        config: PreTrainedConfig,
        probes: Sequence[Sequence[int]],
        *,
        precision: str,
        tensor_parallel: int,
        max_loras: int,
        max_rank: int,
        gpu_memory: float | None,
    ) -> None:
        check_installed()
        os.environ.update({key: os.environ.get(key, it) for key, it in _ENVIRONMENT.items()})
        # So adapters are loaded, and errors raised, in this process by plain calls.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self._prompts = [{"prompt_token_ids": list(probe)} for probe in probes]
        longest = max(map(len, probes))
        rows = max_loras * len(probes)
        try:
            import vllm
            from vllm.config import PoolerConfig
            from vllm.lora.request import LoRARequest
            from vllm.platforms import current_platform

            if current_platform.is_cpu() and precision == "tf32":
                raise UsageError("tf32 needs a GPU: use fp32 on a CPU")
            self._llm = vllm.LLM(
                model=str(folder),
                runner="pooling",
                convert="embed",
                pooler_config=PoolerConfig(
                    task="embed", seq_pooling_type="LAST", use_activation=False
                ),
                dtype=DTYPES[precision],
                tensor_parallel_size=tensor_parallel,
                enable_lora=True,
                max_loras=max_loras,
                max_lora_rank=max_rank,
                max_model_len=longest,
                max_num_seqs=rows,
                max_num_batched_tokens=rows * longest,
                kv_cache_memory_bytes=_kv_cache_bytes(config, rows, longest),
                enable_prefix_caching=False,
                enforce_eager=True,
                trust_remote_code=False,
                use_tqdm_on_load=False,
                **({} if gpu_memory is None else {"gpu_memory_utilization": gpu_memory}),
            )
        except HubdeltaError:
            raise
        except Exception as error:
            what = " ".join(str(error).split())[:300] or type(error).__name__
            raise HubdeltaError(f"vLLM cannot run the base in {folder}: {what}") from error
        self._request = LoRARequest
        self.dtype: torch.dtype = self._llm.model_config.dtype
        on_gpu = not current_platform.is_cpu()
        self.precision = (
            "tf32" if on_gpu and self.dtype is torch.float32 else _PRECISIONS[self.dtype]
        )

    def lora_modules(self, names: Sequence[str]) -> frozenset[str]:
        """Which of the modules, named as in transformers, vLLM applies LoRA to."""
        per_worker = self._llm.apply_model(partial(_lora_modules, names=tuple(names)))
        return frozenset.intersection(*map(frozenset, per_worker))

    def load(self, folder: Path) -> Any:
        """Load an adapter and return it for `states`.

        Args:
            folder: as written by `write_adapter`; needed until the adapter is unloaded.

        Raises:
            Exception: vLLM rejects it. It documents no errors.
        """
        number = next(_IDS)
        request = self._request(f"hubdelta-{number}", number, str(folder))
        try:
            self._llm.llm_engine.add_lora(request)
        except Exception:
            self.unload(request)  # it may be partly loaded
            raise
        return request

    def unload(self, request: Any) -> None:
        """Forget an adapter; raises as `load`."""
        self._llm.llm_engine.remove_lora(request.lora_int_id)

    def states(self, adapters: Sequence[Any]) -> Activations:
        """Hidden states [adapters, probes, hidden] after the final norm, in one pass.

        Args:
            adapters: as returned by `load`; None is the base itself.

        Raises:
            Exception: the pass failed. vLLM documents no errors.
        """
        requests = [adapter for adapter in adapters for _ in self._prompts]
        outputs = self._llm.encode(
            self._prompts * len(adapters),
            lora_request=requests,
            pooling_task="embed",
            use_tqdm=False,
        )
        states = torch.stack([output.outputs.data for output in outputs]).float().numpy()
        return states.reshape(len(adapters), len(self._prompts), -1)

    def forget_requests(self) -> None:
        """Drop requests left by a failed pass, which the next pass would answer too."""
        engine = self._llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)

    def clear_cache(self) -> None:
        """Set all cached keys and values to zero; raises as `states`."""
        self._llm.collective_rpc(_clear_cache)

    def close(self) -> None:
        """Free the devices and vLLM's process-wide state."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm


def _lora_modules(model: Any, names: Sequence[str]) -> list[str]:
    """Runs in the model's process: which of the modules vLLM has wrapped for LoRA.

    Loading an adapter silently skips all others (vllm/lora/model_manager.py).
    """
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
    from vllm.lora.utils import parse_fine_tuned_lora_name

    manager = model.lora_manager
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    renames = mapper.get_rename_mapper() if mapper else None
    wrapped = {
        part
        for name, module in manager.modules.items()
        if isinstance(module, BaseLinearLayerWithLoRA)
        for part in manager.packed_modules.get(name, [name])
    }
    return [
        name
        for name in names
        if parse_fine_tuned_lora_name(f"{PREFIX}{name}.lora_A.weight", renames)[0] in wrapped
    ]


def _clear_cache(worker: Any) -> None:
    """Runs in the cache's process."""
    for cache in worker.model_runner.kv_caches:
        cache.zero_()


def _kv_cache_bytes(config: PreTrainedConfig, rows: int, tokens: int) -> int:
    """The most cache that one pass needs; by default vLLM takes nearly all memory for it."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_attention_heads * head * 4
    blocks = (rows + 1) * math.ceil(tokens / _KV_BLOCK) + 1
    return int(per_token * blocks * _KV_BLOCK)
