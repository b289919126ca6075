"""The stacked engine: every adapter of a batch in one pass through the base."""
