"""Do the tests notice? Some wrong turns of the embedding engines, each in a copy of the tree.

    python tests/mutations.py [WORDS]

Each replaces a text, which must stand in its file exactly once, and runs the few tests that should
fail. The same tests must pass before. Exits with 1 if a mutation survives. Of several mutations,
only those with WORDS in their names are tried.
"""

import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "schemas",
    "vectors",
    "crawler",
    "hub_server",
    "indexer",
    "sql",
    "clusters",
    "evaluation",
    "explorer",
)
COPIED = (*ROOMS, "demo", "hubdelta", "tests", "pyproject.toml")

LOADED_ONCE = (
    *("peft", "transformers.models.gpt2.modeling_gpt2"),
    "transformers.models.llama.modeling_llama",
)

METHODS = "indexer/engines/edits/methods.py"
SITE = "indexer/engines/edits/site.py"
ENGINE = "indexer/engines/engine.py"
SCALE = 'alpha / (math.sqrt(rank) if getattr(config, "use_rslora", False) else rank)'

KINDS = "tests/indexer/exactness/test_exactness.py::test_activations_are_those_of_peft"
COMPANY = (
    "tests/indexer/exactness/test_exactness.py::test_company_order_and_batch_size_do_not_matter"
)
READOUT = "tests/indexer/test_readout.py"
STREAMED = "tests/indexer/streamed/test_streamed_exactness.py"


@dataclass(frozen=True)
class Mutation:
    """A wrong turn.

    Attributes:
        name: what goes wrong.
        file: where.
        right: the text that is replaced.
        wrong: what stands there then.
        tests: arguments of pytest: what should fail.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation("LoRA's scaling is dropped", SITE, SCALE, "1.0", (KINDS, "-k", "llama-lora")),
    Mutation(
        "rsLoRA's square root is ignored",
        SITE,
        SCALE,
        "alpha / rank",
        (KINDS, "-k", "llama-lora"),
    ),
    Mutation(
        "alpha_pattern is ignored",
        SITE,
        "if alphas := config.alpha_pattern:",
        "if alphas := {}:",
        (KINDS, "-k", "llama-lora"),
    ),
    Mutation(
        "DoRA's magnitude is not applied",
        "indexer/engines/stacked/stacks.py",
        "torch.where(magnitudes.isnan(), 1.0, magnitudes / norms).unsqueeze(1)",
        "torch.ones_like((magnitudes / norms).unsqueeze(1))",
        (KINDS, "-k", "llama and dora"),
    ),
    Mutation(
        "a Conv1D's weight is not transposed",
        "indexer/engines/edits/structure.py",
        "return (rows, columns) if isinstance(module, nn.Linear) else (columns, rows)",
        "return rows, columns",
        (KINDS, "-k", "gpt2-lora"),
    ),
    Mutation(
        "the last token but one is taken",
        "indexer/engines/pooling.py",
        "return states[:, -1]",
        "return states[:, -2]",
        (KINDS, "-k", "llama-lora"),
    ),
    Mutation(
        "the mean counts padding",
        "indexer/engines/pooling.py",
        "padding = (places > ends[:, None])[..., None]",
        "padding = (places > ends[:, None] + 1)[..., None]",
        (READOUT, "-k", "padding"),
    ),
    Mutation(
        "the last layer is trimmed where the mean is taken",
        "indexer/engines/stacked/model.py",
        "base.readout == PAPERS",
        "True",
        (READOUT, "-k", "StackedEngine and llama"),
    ),
    Mutation(
        "LoRA of an embedding is not scaled",
        METHODS,
        "rows = rows + scale * down[:, tokens].T @ up.T",
        "rows = rows + down[:, tokens].T @ up.T",
        (KINDS, "-k", "llama-lora and embedding"),
    ),
    Mutation(
        "a reflection does not see those before it",
        "indexer/engines/edits/factored_methods.py",
        "2 * (one - made[:, :place] @ (unit[:, :place].T @ one))",
        "2 * one",
        (KINDS, "-k", "hra"),
    ),
    Mutation(
        "modules_to_save is ignored",
        METHODS,
        '    if "weight" in site:\n        weight = site.shaped(',
        '    if "weight" in ():\n        weight = site.shaped(',
        (COMPANY, "-k", "llama"),
    ),
    Mutation(
        "arithmetic makes no noise",
        ENGINE,
        "return max([smallest, *(distance(alone, other) for other in others)])",
        "return smallest",
        ("tests/indexer/test_noise_floor.py",),
    ),
    Mutation(
        "the base is not subtracted",
        ENGINE,
        "self.activations.astype(np.float64) - self.baseline.activations",
        "self.activations.astype(np.float64)",
        (STREAMED,),
    ),
    Mutation(
        "one probe stands for all",
        ENGINE,
        "difference.mean(axis=0)",
        "difference[0]",
        (STREAMED,),
    ),
    Mutation(
        "the answers of a batch change places",
        "indexer/engines/stacked/engine.py",
        "yield from zip(reads, result, strict=True)",
        "yield from zip(reads, result[::-1], strict=True)",
        (COMPANY, "-k", "llama"),
    ),
)


def main(words: str) -> int:
    """Print a line for each mutation; returns the exit code."""
    for module in LOADED_ONCE:
        importlib.import_module(module)

    chosen = [mutation for mutation in MUTATIONS if words in mutation.name]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in COPIED:
            _copy(ROOT / name, tree / name)
        for tests in dict.fromkeys(mutation.tests for mutation in chosen):
            if _run(tree, tests) != 0:
                print("these tests fail as it is:", *tests)
                return 2
        survived = 0
        for mutation in chosen:
            with _mutated(tree, mutation):
                code = _run(tree, mutation.tests)
            if code not in (0, 1):
                print(f"pytest ends with {code}, without a failed test:", *mutation.tests)
                return 2
            survived += not code
            print(f"{'caught' if code else 'SURVIVED':9} {mutation.name}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return int(survived > 0)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copy(source, target)
    else:
        unwanted = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(source, target, symlinks=True, ignore=unwanted)


@contextlib.contextmanager
def _mutated(tree: Path, mutation: Mutation) -> Iterator[None]:
    """The tree with a mutation.

    Raises:
        ValueError: its text is not there exactly once.
    """
    file = tree / mutation.file
    text = file.read_text("utf-8")
    if text.count(mutation.right) != 1:
        raise ValueError(
            f"{mutation.name}: in {mutation.file}, {mutation.right!r} stands "
            f"{text.count(mutation.right)} times, not once"
        )
    file.write_text(text.replace(mutation.right, mutation.wrong), "utf-8")
    try:
        yield
    finally:
        file.write_text(text, "utf-8")


def _run(tree: Path, tests: tuple[str, ...]) -> int:
    """Pytest's exit code, in a process that has no module of ours loaded yet."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.chdir(tree)
    sys.path[0] = str(tree)
    sys.dont_write_bytecode = True  # a mutation has the time and often the size of the original
    with (tree / "output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    import pytest

    import hubdelta.indexer

    if not Path(hubdelta.indexer.__file__).resolve().is_relative_to(tree.resolve()):
        os._exit(70)
    os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
