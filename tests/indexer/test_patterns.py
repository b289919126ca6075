"""A pattern in a stranger's config takes neither the run nor an innocent adapter with it."""

import json
import time

import peft
import pytest
from families import make_adapter

from hubdelta.indexer.adapters import patterns
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.patterns import check_patterns
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

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


def inspect(folder, base):
    row = describe_folder(AdapterName(folder.as_posix()), base.folder.as_posix(), run_id="r")
    Obtainer(None, base, folder / "downloads", max_bytes=10**9).inspect(Pending(row, 1))


def backtracking(where):
    """A pattern without end on a name in which `where` stands, and on no other."""
    return rf"(?=.*{where})((\w|\.)+)+X"


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (r"layers\.1\.mlp", {}),
        (r"q_proj\.weight", {}),
        (r"layers\.2\.self_attn\.q_proj", {"layer_replication": [[0, 2], [1, 2]]}),
    ],
    ids=["module", "parameter", "layer that is repeated"],
)
def test_every_name_that_peft_may_match_is_tried(where, settings, tmp_path, base, impatient):
    config = peft.LoraConfig(target_modules=["q_proj"], **settings)
    folder = make_adapter(tmp_path / "adapter", base.folder, config=config)
    inspect(folder, base)
    file = folder / "adapter_config.json"
    said = json.loads(file.read_text()) | {"alpha_pattern": {backtracking(where): 3}}
    file.write_text(json.dumps(said))

    with pytest.raises(AdapterError, match="in alpha_pattern did not finish"):
        inspect(folder, base)


def test_parameters_are_tried_under_the_names_that_modules_had(impatient):
    settings = {
        "target_parameters": ["mlp.experts.down_proj"],
        "alpha_pattern": {backtracking(r"experts\.down_proj"): 3},
    }
    with pytest.raises(AdapterError, match="in alpha_pattern did not finish"):
        check_patterns(config(**settings), ["language_model.model.layers.0.mlp.experts"])


def test_more_parameters_than_any_layer_has_are_refused():
    many = {"target_parameters": [f"w{n}" for n in range(10_000)], "alpha_pattern": {".*": 1}}
    with pytest.raises(AdapterError, match="target_parameters has 10,000 different"):
        check_patterns(config(**many), NAMES)


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
