"""Train the demo's adapters: `python -m hubdelta.demo.train --sources DIR --out DIR [--check]`.

Ordinary supervised finetuning with PEFT, kept deterministic: fixed order, fixed seeds, one thread.
On the same machine with the same package versions, a second run writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubdelta.demo.base import BASE_ID, build_base
from hubdelta.demo.cards import write_page
from hubdelta.demo.pool import BATCH, POOL, SPLIT_SIZE, PooledAdapter
from hubdelta.demo.sources import DOMAINS, PROMPT, Example

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOKENS = 96
LEARNING_RATE = 2e-3


def train_adapter(adapter: PooledAdapter, base: Path, sources: Path, out: Path) -> Path:
    """Train one adapter on `base` and write its repository folder, `out/<org>/<name>`.

    A mixed adapter alternates between its domains' splits, example by example, for as many steps as
    the single-domain adapters of those splits took together.

    Returns:
        The repository's folder: bfloat16 weights, adapter_config.json, card and `.hub.yaml`.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(zlib.crc32(adapter.repo_id.encode()))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            use_rslora=adapter.rslora,
            target_modules=list(adapter.target_modules),
            task_type="CAUSAL_LM",
        ),
    ).train()
    examples = _interleaved(adapter, sources)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=adapter.steps)
    for step in range(adapter.steps):
        batch = _batch(tokenizer, examples[step * BATCH : (step + 1) * BATCH])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    logger.info("%s: last loss %.2f", adapter.repo_id, loss.item())
    return _write(model, adapter, out)


def _interleaved(adapter: PooledAdapter, sources: Path) -> list[Example]:
    splits = [DOMAINS[domain].split(sources, number, SPLIT_SIZE) for domain, number in adapter.data]
    return [example for together in zip(*splits, strict=True) for example in together]


def _batch(tokenizer: Any, examples: list[Example]) -> dict[str, torch.Tensor]:
    """Token ids, mask and labels [batch, tokens]; only the response counts in the loss."""
    import torch

    rows: list[tuple[list[int], list[int]]] = []
    for example in examples:
        prompt = tokenizer(PROMPT.format(instruction=example.instruction)).input_ids
        response = [*tokenizer(example.response).input_ids, tokenizer.eos_token_id]
        rows.append(((prompt + response)[:TOKENS], ([-100] * len(prompt) + response)[:TOKENS]))
    width = max(len(ids) for ids, _ in rows)

    def padded(row: list[int], filler: int) -> list[int]:
        return row + [filler] * (width - len(row))

    return {
        "input_ids": torch.tensor([padded(ids, tokenizer.pad_token_id) for ids, _ in rows]),
        "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
        "labels": torch.tensor([padded(labels, -100) for _, labels in rows]),
    }


def _write(model: Any, adapter: PooledAdapter, out: Path) -> Path:
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder = out / adapter.repo_id
    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: weight.to(torch.bfloat16).contiguous() for name, weight in sorted(weights.items())},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"].to_dict()
    # PEFT stores sets, whose order changes from run to run, and the base's path on this machine.
    config |= {"base_model_name_or_path": BASE_ID, "inference_mode": True}
    config = {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }
    (folder / "adapter_config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    write_page(folder, adapter)
    return folder


def main() -> None:
    """Train what is missing under --out; with --check, measure all of it as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where ORG/NAME folders go")
    parser.add_argument("--sources", type=Path, help="where the packages' texts were unpacked")
    parser.add_argument("--base", type=Path, help="the base's folder; made under --out if absent")
    parser.add_argument("--only", nargs="*", default=[], help="train just these ORG/NAMEs, again")
    parser.add_argument("--check", action="store_true", help="measure silhouette and additivity")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    base = build_base(asked.base or asked.out / BASE_ID)
    for adapter in POOL:
        done = (asked.out / adapter.repo_id / "adapter_model.safetensors").is_file()
        if adapter.repo_id in asked.only or not (asked.only or done):
            if asked.sources is None:
                parser.error("--sources is needed to train")
            began = time.monotonic()
            train_adapter(adapter, base, asked.sources, asked.out)
            logger.info("%s: %.0f s", adapter.repo_id, time.monotonic() - began)
    if asked.check:
        from hubdelta.demo.check import findings, vectors_of

        vectors = vectors_of(base, asked.out, [adapter.repo_id for adapter in POOL])
        sys.stdout.write(json.dumps(findings(vectors)) + "\n")


if __name__ == "__main__":
    main()
