"""Whether a base can follow a recipe, found out from its configuration and tokenizer alone."""

from pathlib import Path

from hubdelta.indexer.base_structure import LOADING_ERRORS, brief, quiet_transformers, read_config
from hubdelta.indexer.engines.base_model import load_tokenizer
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.recipe import MAX_PROBE_TOKENS
from hubdelta.schemas.errors import HubdeltaError, UsageError


def check_recipe(folder: Path, probes: ProbeSet) -> None:
    """Reject probes that a base would not read whole.

    Args:
        folder: holds the base's config.json and tokenizer; weights are not needed.
        probes: the probe set.

    Raises:
        UsageError: a probe has no token, or more than the base's context or the recipe's limit.
        HubdeltaError: the folder does not describe a model with a tokenizer.
    """
    quiet_transformers()
    try:
        config = read_config(folder).get_text_config()
    except LOADING_ERRORS as error:
        raise HubdeltaError(f"the base in {folder} cannot be loaded: {brief(error)}") from error
    context = getattr(config, "max_position_embeddings", None)
    most, whose = MAX_PROBE_TOKENS, "a probe may have"
    if isinstance(context, int) and 0 < context < most:
        most, whose = context, "the base can read"
    tokenizer = load_tokenizer(folder)
    for number, prompt in enumerate(probes.prompts, 1):
        tokens = len(tokenizer(prompt)["input_ids"])
        which = f"probe {number} of {probes.name} ({_beginning(prompt)})"
        if tokens > most:
            raise UsageError(f"{which} has {tokens} tokens: {whose} at most {most}")
        if tokens == 0:
            raise UsageError(f"{which} has no token for the base's tokenizer")


def _beginning(prompt: str) -> str:
    """How a prompt begins, on one line."""
    words = " ".join(prompt.split())
    return repr(words if len(words) <= 40 else f"{words[:40]}...")
