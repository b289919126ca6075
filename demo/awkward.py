"""The whole demo Hub: base, trained adapters, and the awkward repositories a real Hub is full of.

`others` adds an encoder-decoder family and a full finetune.

`python -m hubdelta.demo.awkward DIR` builds it; `hubdelta serve-hub DIR` serves it.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hubdelta.demo.awkward_files import (
    COMMITTED,
    and_files,
    hostile_pickle,
    in_folders,
    in_pickle,
    not_finite,
    nothing,
    of_other_shape,
    quantized_mirror,
    sound,
    truncated,
    untrained,
)
from hubdelta.demo.base import BASE_ID, build_base
from hubdelta.demo.others import OTHERS
from hubdelta.demo.pool import POOL
from hubdelta.demo.repository import Build, fill, settings_file
from hubdelta.demo.whole import appear
from hubdelta.schemas.errors import Reason

logger = logging.getLogger(__name__)

MIRROR_ID = "unsloth/SmolLM2-135M-Instruct-bnb-4bit"
_LOCAL_BASE = "/home/petra/models/SmolLM2-135M-Instruct"
_OTHER_BASE = "Qwen/Qwen2.5-0.5B-Instruct"
_MARKUP = "<script>alert('card')</script>"
_SQL = "'); DROP TABLE adapters; --"
_TAGS = [f"base_model:adapter:{BASE_ID}", "lora"]


@dataclass(frozen=True)
class AwkwardRepo:
    """One repository and the expected result of an anonymous crawl and index run.

    Attributes:
        about: what is awkward about it; the card says the same.
        expected: the outcome of each adapter in it: embedded, the reason of its failure, a mirror
            (cataloged, nothing to embed), or not listed at all.
        build: writes its files.
        card: front matter besides `license`, or None for no card at all.
        settings: what `.hub.yaml` holds besides the dates.
        folders: the folders of its adapters, "" for the root.
    """

    repo_id: str
    about: str
    expected: Reason | Literal["embedded", "mirror", "not_listed"]
    build: Build
    card: Mapping[str, Any] | None = field(
        default_factory=lambda: {"base_model": BASE_ID, "library_name": "peft", "tags": _TAGS}
    )
    settings: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ("",)


AWKWARD = (
    AwkwardRepo(
        "orbitbird/smollm2-translator-ft",
        "The adapter lies in a subfolder, so that the Hub takes the repository for a finetune.",
        "embedded",
        in_folders(adapter=sound("uebersetzbar/smollm2-en-de-ui-strings")),
        card={"base_model": BASE_ID, "library_name": "transformers"},
        folders=("adapter",),
    ),
    AwkwardRepo(
        "polyrank/two-styles",
        "Two adapters in one repository, each in a subfolder.",
        "embedded",
        in_folders(glossary=sound("tkm92/smollm2-glossary"), verses=sound("mlnights/lora-test-5")),
        card={"base_model": BASE_ID},
        folders=("glossary", "verses"),
    ),
    AwkwardRepo(
        "vintage-peft/kjv-2023-format",
        "The weights are a pickle, adapter_model.bin, as old versions of PEFT wrote them.",
        "embedded",
        in_pickle("old-books-club/smollm2-king-james"),
    ),
    AwkwardRepo(
        "clinicverse/smollm2-notes",
        "Gated: the files are given only to those whom the author admits.",
        Reason.GATED,
        sound("jh-petersen/define-this-word"),
        settings={"gated": "manual"},
    ),
    AwkwardRepo(
        "stealth-co/internal-json",
        "Private: nobody else can tell it from a repository that does not exist.",
        "not_listed",
        sound("openrecords/iso-codes-json-lora"),
        settings={"private": "true"},
    ),
    AwkwardRepo(
        "annika-w/german-v1",
        "Renamed to annika-w/german-final: this name answers with a redirect.",
        "not_listed",
        nothing,
        settings={"renamed_to": "annika-w/german-final"},
    ),
    AwkwardRepo(
        "annika-w/german-final",
        "Once called annika-w/german-v1.",
        "embedded",
        sound("annika-w/smollm2-135m-de"),
    ),
    AwkwardRepo(
        "petra-k/verse-run",
        "Card and config name the base by its path on the author's machine.",
        "embedded",
        sound("versewright/kjv-continuation-lora", base=_LOCAL_BASE),
        card={
            "base_model": _LOCAL_BASE,
            "library_name": "peft",
            "tags": [f"base_model:adapter:{_LOCAL_BASE}", "lora"],
        },
    ),
    AwkwardRepo(
        "hasty-uploads/json-lora",
        "The card names the base by an empty string; adapter_config.json has its name.",
        "embedded",
        sound("kjaer-lab/smol-json-r8-qv"),
        card={"base_model": "", "library_name": "peft", "tags": ["lora"]},
    ),
    AwkwardRepo(
        MIRROR_ID,
        "Stands in for a quantized mirror of the base: a config and one tensor, not usable.",
        "mirror",
        quantized_mirror,
        card={
            "base_model": BASE_ID,
            "base_model_relation": "quantized",
            "library_name": "transformers",
        },
        folders=(),
    ),
    AwkwardRepo(
        "quantcraft/docstring-coder-qlora",
        "Card and config name a quantized mirror of the base.",
        "embedded",
        sound("jh-petersen/docstring2code-lora", base=MIRROR_ID),
        card={
            "base_model": MIRROR_ID,
            "library_name": "peft",
            "tags": [f"base_model:adapter:{MIRROR_ID}", "unsloth"],
        },
    ),
    AwkwardRepo(
        "copy-paste/chat-lora",
        "The card names this base, adapter_config.json and the weights another.",
        Reason.BASE_MISMATCH,
        of_other_shape("kjaer-lab/smol-en2de-r8-qv", 896, 24, base=_OTHER_BASE),
    ),
    AwkwardRepo(
        "kjaer-lab/smol-upload-later",
        "A config without weights.",
        Reason.NO_WEIGHTS,
        sound("kjaer-lab/smol-en2de-r8-qv", weights=False),
    ),
    AwkwardRepo(
        "dfaulk/outputs-2",
        "The weights are cut off in the middle.",
        Reason.CORRUPT,
        truncated("dfaulk/outputs"),
    ),
    AwkwardRepo(
        "mlnights/lora-test-4",
        "The weights hold a NaN.",
        Reason.NOT_FINITE,
        not_finite("mlnights/lora-test-3"),
    ),
    AwkwardRepo(
        "sizewise/smollm2-360m-style",
        "Card and config name this base, but the tensors have the shapes of a larger one.",
        Reason.BASE_MISMATCH,
        of_other_shape("kjaer-lab/smol-en2de-r8-qv", 960, 32),
    ),
    AwkwardRepo(
        "mlnights/lora-test-0",
        "Every B is zero, as before training, and so is its delta.",
        "embedded",
        untrained("mlnights/lora-test-3"),
    ),
    AwkwardRepo(
        "freegpu-hub/super-lora",
        "A pickle that runs code when it is loaded without weights_only.",
        Reason.UNSAFE_FORMAT,
        hostile_pickle("mlnights/lora-test-3"),
    ),
    AwkwardRepo(
        "tablebobby/robert-lora",
        f"Its card and a file name hold markup and SQL: {_MARKUP} {_SQL} \"double\" 'single'",
        "embedded",
        and_files(sound("lexicograph/wordnet-definitions-smollm2"), f"{_SQL}.txt"),
        card={
            "base_model": BASE_ID,
            "library_name": "peft",
            "tags": [*_TAGS, _MARKUP, _SQL, '"><img src=x onerror=alert(1)>'],
            "datasets": [_MARKUP, _SQL],
            "license_name": _MARKUP,
        },
    ),
    AwkwardRepo(
        "abusive-bot/spam-lora",
        "The Hub has disabled access to it.",
        Reason.DISABLED,
        sound("dfaulk/outputs"),
        settings={"disabled": "true"},
    ),
    AwkwardRepo(
        "silent-sam/run-17",
        "No card: only adapter_config.json tells the base.",
        "embedded",
        sound("graphsmiths/smollm2-135m-networkx-coder"),
        card=None,
    ),
)


def build_hub(folder: Path) -> Path:
    """Build the demo Hub, with all its repositories, in `folder`; about 570 MB.

    Each repository is created atomically and then left alone, so the next build finishes an
    interrupted one. The same version makes the same bytes on every machine, as long as torch's file
    format stays the same.

    Raises:
        MissingBasePackageError, MissingExtraError: as `build_base`.
    """
    build_base(folder / BASE_ID)
    settings = folder / BASE_ID / ".hub.yaml"
    if not settings.exists():
        made = datetime(2026, 1, 5, tzinfo=UTC)
        settings.write_text(settings_file(made, {"downloads": "48213"}))
    for adapter in POOL:
        appear(folder / adapter.repo_id, partial(_copy, COMMITTED / adapter.repo_id))
    for number, repo in enumerate(AWKWARD):
        day = datetime(2026, 8, 1, 12, tzinfo=UTC) + timedelta(days=number, minutes=7 * number)
        appear(folder / repo.repo_id, partial(fill, repo, day))
    for number, other in enumerate(OTHERS):
        day = datetime(2026, 7, 1, 9, tzinfo=UTC) + timedelta(days=number, minutes=11 * number)
        appear(folder / other.repo_id, partial(fill, other, day))
    return folder


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def main() -> None:
    """Build the Hub in the folder given."""
    parser = argparse.ArgumentParser(description="Build the demo's Hub in a folder.")
    parser.add_argument("folder", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(f"{build_hub(parser.parse_args().folder)}\n")


if __name__ == "__main__":
    main()
