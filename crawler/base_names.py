"""What a base is called in configs and cards: names, URLs, and the folders of many caches."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from hubdelta.crawler.entry import is_repo_id

_COPY_SUFFIX: Final = re.compile(
    r"""[-_.](?:
        (?:unsloth-)?bnb-(?:4|8)bit | unsloth | [2-8][-_]?bits?
      | gptq(?:[-_]int(?:4|8))? | awq(?:[-_]int4)? | hqq | aqlm | quanto | exl2 | torchao
      | fp(?:8|4)(?:[-_]dynamic)? | nf4 | nvfp4 | mxfp4 | w(?:4|8)a(?:4|8|16) | int(?:4|8)
      | q(?:4|8) | bf16 | fp16 | mlx | copy | mirror
    )$""",
    re.VERBOSE | re.IGNORECASE,
)
"""What quantizers and re-uploaders append to a model's name."""

_URL: Final = re.compile(
    r"""(?: https?://[^/\s]+ | hf:/ | (?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn) )/
        (?: models/ )?                                     # of ModelScope
        (?! (?:datasets|spaces|collections|papers)/ )
        (?P<name> [\w.-]+/[\w.-]+? ) (?:\.git)? (?: [/?\#@].* )?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII | re.DOTALL,
)

_BARE_NAME = re.compile(r"[\w-][\w.-]{0,95}", re.ASCII)

_CACHE_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)", re.ASCII)
"""A model's folder in the cache of huggingface_hub, which other caches copy."""

_KAGGLE_FRAMEWORKS: Final = frozenset(
    {"transformers", "pytorch", "jax", "flax", "keras", "tensorflow2", "gemmacpp", "gguf"}
)
"""Parts of a path on Kaggle: `…/MODEL/FRAMEWORK/VARIATION/VERSION`."""

_ESCAPED_DOT: Final = "___"  # ModelScope, in the names of its folders


def hub_name(text: str) -> str | None:
    """The ORG/NAME that a text means: a name, perhaps with spaces around it, or a page's URL."""
    text = text.strip()
    url = _URL.fullmatch(text)
    name = url["name"] if url else text.rstrip("/")
    return name if is_repo_id(name) else None


def askable_name(text: str) -> str | None:
    """The name to look up on a Hub to learn which model a text means; None for other paths."""
    name = hub_name(text) or cached_name(text)
    # Names without an owner, such as gpt2, are older than owners; the Hub redirects them.
    return name or (text if _BARE_NAME.fullmatch(text) else None)


def cached_name(path: str) -> str | None:
    """The ORG/NAME whose folder in a Hub cache is on the path."""
    for folder in _parts(path):
        if match := _CACHE_FOLDER.fullmatch(folder.replace(_ESCAPED_DOT, ".")):
            return f"{match[1]}/{match[2]}"
    return None


def plain_name(repo_id: str) -> str:
    """A model's name without owner or case, and without what quantizers and re-uploaders append."""
    name = repo_id.rpartition("/")[2]
    while name != (shorter := _COPY_SUFFIX.sub("", name)):
        name = shorter
    return name.casefold()


def spelled_alike(one: str, other: str) -> bool:
    """Whether two names consist of the same words and numbers, ignoring separators."""
    return _words(one) == _words(other)


def is_variant(one: str, other: str) -> bool:
    """Whether one name is the other, perhaps with a prefix: meta-llama-3-8b, llama-3-8b."""
    short, long = sorted((_words(one), _words(other)), key=len)
    return bool(short) and long[-len(short) :] == short


def folder_names(path: str) -> Iterator[str]:
    """The model names that a path can mean, likeliest first.

    That is its last folder's name, which may start with an owner (`ORG--NAME`); on Kaggle the name
    consists of two folders. Nothing above the last folder counts: what is inside a folder that has
    the base's name is usually a finetune of it.
    """
    folders = list(_parts(path))
    if "snapshots" in folders:  # …/NAME/snapshots/COMMIT
        del folders[folders.index("snapshots") :]
    if any("kaggle" in folder.casefold() for folder in folders):
        for place, folder in enumerate(folders[1:-1], start=1):
            if folder.casefold() in _KAGGLE_FRAMEWORKS:
                variation = folders[place + 1]
                yield f"{folders[place - 1]}-{variation}"
                yield variation
    if folders:
        yield folders[-1]


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.strip().replace("\\", "/")).parts


def _words(name: str) -> list[str]:
    """The words and numbers of a name, without `-hf`, which marks weights for transformers."""
    words = re.findall(r"[^\W\d_]+|\d+", name.casefold())
    return words[:-1] if words[-1:] == ["hf"] else words
