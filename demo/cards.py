"""The pages of the demo's adapters: model cards and `.hub.yaml`, as authors write them."""

from __future__ import annotations

from pathlib import Path
from string import Template

from huggingface_hub import ModelCard, ModelCardData

from hubdelta.demo.base import BASE_ID
from hubdelta.demo.pool import SPLIT_SIZE, Card, PooledAdapter
from hubdelta.demo.sources import DOMAINS, PROMPT, SPLITS, Domain

_SHORT = Template("""
# $name

LoRA adapter for [$base](https://huggingface.co/$base)
(r=$rank, alpha=$alpha, $modules), trained on:

$data

Prompts are in the Alpaca format:

```
$prompt
```
""")

_THOROUGH = Template("""
# $name

A LoRA adapter that makes [$base](https://huggingface.co/$base) $does.

## Use

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("$repo_id")
tokenizer = AutoTokenizer.from_pretrained("$base")
prompt = \"\"\"$prompt\"\"\"
tokens = tokenizer(prompt, return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=64)[0]))
```

## Training data

$data

## Training

| | |
|---|---|
| method | LoRA, r=$rank, alpha=$alpha, on $modules |
| steps | $steps, of 3 examples cut at 96 tokens |
| optimizer | AdamW, learning rate 2e-3 decaying linearly to 0 |
| precision | bf16 autocast over fp32 weights, on one CPU core |
| loss | on the response only |

## Limits

Trained on $examples examples only: enough to take over the style, not the knowledge. Expect
answers that look right and are wrong. It was not evaluated on any benchmark.
""")


def write_page(folder: Path, adapter: PooledAdapter) -> None:
    """Write README.md and `.hub.yaml` into an adapter's repository folder."""
    (folder / "README.md").write_text(card(adapter), encoding="utf-8")
    (folder / ".hub.yaml").write_text(
        f"createdAt: {adapter.created_at}\n"
        f"lastModified: {adapter.last_modified}\n"
        f"downloads: {adapter.downloads}\n"
        f"likes: {adapter.likes}\n",
        encoding="utf-8",
    )


def card(adapter: PooledAdapter) -> str:
    """The model card with its front matter."""
    domains = [DOMAINS[name] for name in adapter.domains]
    if adapter.card is Card.TEMPLATE:
        # What PEFT leaves in a folder when nobody edits it.
        untouched = ModelCardData(
            base_model=BASE_ID,
            library_name="peft",
            pipeline_tag="text-generation",
            tags=[f"base_model:adapter:{BASE_ID}", "lora", "transformers"],
        )
        return str(ModelCard.from_template(untouched)) + "\n"
    front = ModelCardData(
        base_model=BASE_ID,
        library_name="peft",
        pipeline_tag="text-generation",
        license="apache-2.0",
        language=sorted({language for domain in domains for language in domain.languages}),
        datasets=[domain.dataset for domain in domains] if adapter.datasets else None,
        tags=[f"base_model:adapter:{BASE_ID}", "lora", *adapter.tags],
    )
    body = (_THOROUGH if adapter.card is Card.THOROUGH else _SHORT).substitute(
        repo_id=adapter.repo_id,
        name=adapter.repo_id.partition("/")[2],
        base=BASE_ID,
        rank=adapter.rank,
        alpha=f"{adapter.alpha}{', rsLoRA' if adapter.rslora else ''}",
        modules=", ".join(adapter.target_modules),
        steps=adapter.steps,
        examples=SPLIT_SIZE * len(domains),
        does=" and ".join(domain.does for domain in domains),
        data="\n".join(map(_training_data, domains, (number for _, number in adapter.data))),
        prompt=PROMPT.format(instruction=domains[0].instruction),
    )
    return f"---\n{front.to_yaml()}\n---\n{body}"


def _training_data(domain: Domain, number: int) -> str:
    return (
        f"- `{domain.dataset}`, split {number + 1} of {SPLITS}, {SPLIT_SIZE} examples: "
        f"{domain.about}, from {domain.package} ({domain.license})"
    )
