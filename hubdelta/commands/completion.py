"""`hubdelta completion`: what a shell needs to complete commands, options, bases and adapters."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="""\b
Examples:
  hubdelta completion bash > ~/.local/share/bash-completion/completions/hubdelta
  hubdelta completion zsh > "${fpath[1]}/_hubdelta"
  hubdelta completion fish > ~/.config/fish/completions/hubdelta.fish"""
)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="{bash|zsh|fish}")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes a SHELL complete commands, options, and names of your index.

    Bases and adapters are those of --index, where it stands before them, or of HUBDELTA_INDEX.
    """
    made_for = get_completion_class(shell)
    if made_for is None:  # click knows all three
        raise click.UsageError(f"no completion for {shell}")
    root = context.find_root().command
    click.echo(made_for(root, {}, "hubdelta", "_HUBDELTA_COMPLETE").source())
