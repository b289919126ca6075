"""Whether a base can follow a recipe, found out from its configuration and tokenizer alone."""

from pathlib import Path

from hubdelta.indexer.base_structure import LOADING_ERRORS, brief, quiet_transformers, read_config
from hubdelta.indexer.engines.base_model import load_tokenizer
from hubdelta.indexer.engines.layer_state import layer_count
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.indexer.recipe import MAX_PROBE_TOKENS
from hubdelta.schemas.errors import HubdeltaError, UsageError


def check_recipe(folder: Path, probes: ProbeSet, readout: Readout) -> None:
    """Reject probes that a base would not read whole, and hidden states that it does not have.

    Args:
        folder: holds the base's config.json and tokenizer; weights are not needed.
        probes: the probe set.
        readout: which hidden states of a probe count.

    Raises:
        UsageError: a probe has no token, or more than the base's context or the recipe's limit; or
            the base has no such hidden states.
        HubdeltaError: the folder does not describe a model with a tokenizer.
    """
    quiet_transformers()
    try:
        config = read_config(folder)
    except LOADING_ERRORS as error:
        raise HubdeltaError(f"the base in {folder} cannot be loaded: {brief(error)}") from error
    if config.is_encoder_decoder and readout != PAPERS:
        raise UsageError(
            "the hidden state of an encoder-decoder base is that of its decoder's only token, "
            "after the final norm: it has no other pooling or layer"
        )
    if readout.layer is not None:
        readout.counted_from_the_start(layer_count(config))
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    most, whose = MAX_PROBE_TOKENS, "a probe may have"
    if isinstance(context, int) and 0 < context < most:
        most, whose = context, "the base can read"
    if probes.id == ALPACA_5.id:  # cut off where they are too long, as in the paper
        return
    tokenizer = load_tokenizer(folder)
    for number, prompt in enumerate(probes.prompts, 1):
        tokens = len(tokenizer(prompt)["input_ids"])
        which = f"probe {number} of {probes.name} ({_beginning(prompt)})"
        if tokens > most:
            raise UsageError(f"{which} has {tokens} tokens: {whose} at most {most}")
        if tokens == 0:
            raise UsageError(f"{which} has no token for the base's tokenizer")


def counted_from_the_start(folder: Path, readout: Readout) -> Readout:
    """A readout whose layer may count from the end, in the form that a recipe takes.

    Args:
        folder: holds the base's config.json.
        readout: which hidden states of a probe count.

    Raises:
        UsageError: the base has no such layer.
        LOADING_ERRORS: what transformers raises.
    """
    return readout.counted_from_the_start(layer_count(read_config(folder)))


def _beginning(prompt: str) -> str:
    """How a prompt begins, on one line."""
    words = " ".join(prompt.split())
    return repr(words if len(words) <= 40 else f"{words[:40]}...")
