"""One lock around everything that creates or loads modules."""

from threading import RLock
from typing import Final

BUILDING: Final = RLock()
"""Held while modules are created or loaded: to create them without weights, accelerate and PEFT
temporarily replace a method of every module in the process, and transformers sets the default
dtype."""
