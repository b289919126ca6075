"""What the command line's exit code says."""

EXIT_FAILED = 1
"""The run could not be done."""

EXIT_USAGE = 2
"""The command or its arguments are wrong."""

EXIT_SOME_FAILED = 3
"""Some named adapters were not found or, with `--strict`, some failed."""

EXIT_INTERRUPTED = 130
"""Ctrl-C or SIGTERM ended it."""
