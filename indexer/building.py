"""One lock around all that makes or loads modules."""

from threading import RLock
from typing import Final

BUILDING: Final = RLock()
"""Held while modules are made or loaded: accelerate and PEFT make those without weights by
exchanging, for a moment, a method of every module of the process, and transformers sets its default
dtype."""
