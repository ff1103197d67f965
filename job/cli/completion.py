"""`truecopy completion`: what makes a shell complete commands, options and names of pairs."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Install it once:
  bash  truecopy completion bash >~/.local/share/bash-completion/completions/truecopy
  zsh   truecopy completion zsh >"${fpath[1]}/_truecopy"
  fish  truecopy completion fish >~/.config/fish/completions/truecopy.fish

\b
Or, for the shell at hand only:
  eval "$(truecopy completion bash)"
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the completion script of a shell.

    With it the shell completes commands, options and names of pairs. Bash 4.4 or newer, zsh or fish. The folder of
    the script has to exist; new shells find the script there.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    script = kind(context.find_root().command, {}, "truecopy", "_TRUECOPY_COMPLETE")
    # Not the class's own `source`: for bash it starts a bash to see its version, and an image may have none.
    click.echo(script.source_template % script.source_vars())
