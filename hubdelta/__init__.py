"""hubdelta: every model finetuned from a base on the Hugging Face Hub, embedded by what it does."""

from importlib.metadata import version

__version__ = version("hubdelta")
