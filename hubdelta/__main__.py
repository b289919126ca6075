"""`python -m hubdelta`: the same as the `hubdelta` command."""

from hubdelta.cli import main

main()
