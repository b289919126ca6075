"""A pattern in a stranger's config takes neither the run nor an innocent adapter with it."""

import time

import pytest

from hubdelta.indexer.adapters import patterns
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.patterns import check_patterns
from hubdelta.schemas.errors import AdapterError, Reason

NAMES = [f"model.layers.{n}.self_attn.q_proj" for n in range(32)] + [""]
ENDLESS = r"(.*)*(.*)*(.*)*(.*)*(.*)*(.*)*x"

HOSTILE = {
    "target_modules": {"target_modules": ENDLESS},
    "exclude_modules": {"target_modules": ["q_proj"], "exclude_modules": ENDLESS},
    "layers_pattern": {"target_modules": ["q_proj"], "layers_pattern": [ENDLESS]},
    "rank_pattern": {"target_modules": ["q_proj"], "rank_pattern": {ENDLESS: 8}},
    "alpha_pattern": {"target_modules": ["q_proj"], "alpha_pattern": {"q_proj": 2, ENDLESS: 8}},
    "modules_to_save": {"target_modules": ["q_proj"], "modules_to_save": [ENDLESS]},
    "feedforward_modules": {"feedforward_modules": ENDLESS},
    "n_frequency_pattern": {"n_frequency_pattern": {ENDLESS: 8}},
}

ORDINARY = {
    "names": ["q_proj", "v_proj"],
    "one name": "all-linear",
    "Unsloth's": r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn)"
    r".*?(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|o_proj|gate_proj|up_proj|down_proj).*?)|"
    r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn)\.(?:(?:k_proj|v_proj|q_proj)))",
    "a layer's": r"model\.layers\.\d+\.self_attn\.(q|v)_proj",
    "with an escape": r".*\.q_proj$",
}


def config(**values):
    return AdapterConfig("LORA", values)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(patterns, "_SECONDS", 1.0)


@pytest.mark.parametrize("key", HOSTILE)
def test_a_pattern_without_end_is_that_adapters_failure(key, impatient):
    before = time.monotonic()
    with pytest.raises(AdapterError, match=rf"in {key} did not finish") as failure:
        check_patterns(config(**HOSTILE[key]), NAMES)
    assert failure.value.reason is Reason.CORRUPT
    assert time.monotonic() - before < 30


@pytest.mark.parametrize("kind", ORDINARY)
def test_patterns_that_people_use_pass(kind):
    check_patterns(config(target_modules=ORDINARY[kind]), NAMES)


def test_names_alone_cost_no_process(monkeypatch):
    monkeypatch.setattr(patterns, "_complaint", lambda *_: pytest.fail("a process was started"))
    check_patterns(config(target_modules=["q_proj"], rank_pattern={"a.v_proj": 4}, r=8), NAMES)


@pytest.mark.parametrize("key", ["layers_pattern", "target_modules", "exclude_modules"])
def test_what_is_not_closed_is_named_with_its_key(key):
    with pytest.raises(AdapterError, match=rf"the pattern \( in {key} is not a valid"):
        check_patterns(config(**{key: "("}), NAMES)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [("(.*", "is not a valid regular expression"), ("a*" * 6000, "has 12,000 characters")],
)
def test_what_is_no_pattern_is_named(pattern, complaint):
    with pytest.raises(AdapterError, match=complaint):
        check_patterns(config(target_modules=pattern), NAMES)
