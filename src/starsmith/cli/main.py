"""The `starsmith` command: finds the module of a subcommand when it is called, so that `--help` loads nothing else."""

import errno
import importlib
import sys

import click

from starsmith.core.errors import StarsmithError

# name -> (module below starsmith.cli, attribute, one line of help)
COMMANDS = {
    "demo": ("demo", "demo", "The whole chain on real source code, from files to a completion that names its sources."),
    "run": ("run", "run", "Run a recipe, stage by stage, skipping what is up to date."),
    "corpus": ("corpus", "corpus", "Build and inspect a governed corpus."),
    "tokenizer": ("tokenizer", "tokenizer", "Train a vocabulary."),
    "tokens": ("tokenizer", "tokens", "Encode a corpus into token shards."),
    "pretrain": ("pretrain", "pretrain", "Train a model on token shards; the same command again resumes."),
    "plan": ("plan", "plan", "What a training run takes: memory, days, cost; or what a budget buys."),
    "import": ("imports", "import_model", "Make a model artefact from a Hugging Face directory."),
    "quantize": ("quantize", "quantize", "Round a model's weights to fewer bits, and measure what that costs."),
    "evaluate": ("evaluate", "evaluate", "Measure a model."),
    "index": ("provenance", "index", "Fingerprint a corpus, to find where code comes from."),
    "attribute": ("provenance", "attribute", "Say which corpus files a piece of code goes back to."),
    "serve": ("serve", "serve", "Serve a model to editors, SDKs and browsers."),
    "complete": ("serve", "complete", "Complete one place in a file."),
    "verify": ("provenance", "verify", "Check an artefact and everything it was made from."),
    "sign": ("signing", "sign", "Sign an artefact."),
    "keygen": ("signing", "keygen", "Make a key to sign artefacts with."),
    "export": ("export", "export", "Write papers about an artefact, or a model as GGUF or safetensors."),
    "audit": ("audit", "audit", "Find out what a model remembers of its training files."),
    "report": ("report", "report", "Write a static page about a run."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """In the order of the work, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"starsmith.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="starsmith", prog_name="starsmith")
def cli() -> None:
    """From source repositories to a code model you own and a completion that names its sources."""


def main() -> None:
    """Run a command; what the user can mend is two lines and exit status 1."""
    try:
        cli(prog_name="starsmith")
    except StarsmithError as error:
        _fail(error.message, error.hint)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"no space left on the disk: {error.filename or error}", "free some space, or write to another disk")
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            _fail(f"no permission for {error.filename or error}", "choose another path, or change its owner")
        raise


def _fail(message: str, hint: str) -> None:
    sys.stderr.write(f"error: {message}\n" + (f" hint: {hint}\n" if hint else ""))
    sys.exit(1)


if __name__ == "__main__":
    main()
