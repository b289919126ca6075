"""The lists of the paper's public adapters: whole, and labeled by the page's pattern."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hubdelta.evaluation.labels import labels_by_pattern, scorable
from hubdelta.schemas.keys import AdapterName

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evaluate.md").read_text("utf-8")


@pytest.mark.parametrize("file", sorted((ROOT / "pools").glob("*.txt")), ids=lambda file: file.name)
def test_a_pool_has_three_adapters_of_each_of_five_kinds(file):
    lines = file.read_text("utf-8").splitlines()
    names = [str(AdapterName.parse(line)) for line in lines if not line.startswith("#")]
    assert len(set(names)) == len(names) == 15
    (pattern,) = re.findall(r"--label-pattern '(ASethi04/.*?)'", PAGE)
    if "submission" in file.name:
        pattern = pattern.replace("ASethi04", "Anonymous19782130")
    labels = scorable(labels_by_pattern(names, pattern), file.name).labels
    assert sorted(Counter(labels.values()).values()) == [3] * 5
