"""`hubdelta completion`: what a shell needs to complete commands, options, bases and adapters."""

from typing import Annotated, Final, Literal

import typer

VARIABLE: Final = "_HUBDELTA_COMPLETE"
"""Of the environment: how a shell asks for completions."""

EXAMPLES: Final = """\
hubdelta completion bash > ~/.local/share/bash-completion/completions/hubdelta
hubdelta completion zsh > "${fpath[1]}/_hubdelta"
hubdelta completion fish > ~/.config/fish/completions/hubdelta.fish"""


def command(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
    ],
) -> None:
    """Print the script that makes a SHELL complete commands, options, and names of your index.

    Bases and adapters are those of --index, where it stands before them, or of HUBDELTA_INDEX.
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="hubdelta", complete_var=VARIABLE, shell=shell))
