"""What the index lacks of a space: adapters whose rows are to be computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from hubdelta.evaluation.answers import ANSWER_TOKENS
from hubdelta.evaluation.kept import Kept, lacking
from hubdelta.evaluation.members import Member
from hubdelta.evaluation.salient import SAMPLES, SHARE
from hubdelta.evaluation.spaces import OUTPUTS, PROMOTED, SALIENT, UPDATE, WEIGHTS
from hubdelta.indexer.probes import ProbeSet


def definition_of(space: str, sentence_model: str, probes: ProbeSet, recipe_id: str) -> str:
    """What rows of a space must share to be comparable, in words.

    Args:
        space: one that the index keeps.
        sentence_model: name of the model that embeds answers, and its commit.
        probes: what adapters answer.
        recipe_id: of the vectors.
    """
    return {
        WEIGHTS: "A and B of linear layers",
        UPDATE: "s B A of linear layers",
        SALIENT: f"top {SHARE:.0%} of |s B A| by {SAMPLES} samples, seed 0",
        OUTPUTS: f"greedy, {ANSWER_TOKENS} tokens, probes {probes.id}, {sentence_model}",
        PROMOTED: f"centered logits of the deltas of recipe {recipe_id}",
    }[space]


@dataclass(frozen=True)
class Gap:
    """What the index lacks of a space.

    Attributes:
        space: its name.
        definition: as `definition_of`.
        new: adapters to compute rows for.
        others: adapters that inner products are needed with; none for a space of vectors.
        kept: the rows that are there.
    """

    space: str
    definition: str
    new: list[Member]
    others: list[Member]
    kept: Kept

    @classmethod
    def of(cls, space: str, definition: str, members: Sequence[Member], kept: Kept) -> "Gap":
        """What is lacking for some adapters."""
        usable = [member for member in members if kept.left_out(member.revised) is None]
        if space == OUTPUTS:
            new = [member for member in usable if member.revised not in kept.rows]
            return cls(space, definition, new, [], kept)
        gram = kept.gram([member.revised for member in usable])
        new = [usable[place] for place in lacking(gram)]
        return cls(space, definition, new, usable if new else [], kept)

    @property
    def needed(self) -> list[Member]:
        """The adapters to fetch."""
        return self.others or self.new
