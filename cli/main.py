"""The `reports` command: a table of commands, each imported only when it is called.

Exit status: 0; 1 a command found a difference or a bug showed itself; 2 used or configured wrongly; 3 what is on disk
or in the log is not what was left there, or Kafka or Redis doesn't answer. 2 and 3 print one line on standard error.
"""

from __future__ import annotations

import importlib
import sys

import click

from app.errors import ConfigError, StateError, TryLater, of_file
from cli import hangup
from tables.broken import is_database_error

# name → module (each has a click command named `command`), and the line that `reports --help` shows of it.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("cli.demo", "Start everything with a demo campaign that moves."),
    "up": ("cli.up", "Start everything, for real use on one machine."),
    "run": ("cli.run", "Run one role and start it again when it dies."),
    "check": ("cli.check", "Read the configuration and say what is wrong."),
    "kafka": ("cli.own_kafka", "The own Kafka node."),
    "redis": ("cli.own_redis", "The own Redis server."),
    "api": ("cli.api", "Take webhooks, answer reports."),
    "normalize": ("cli.normalize", "Turn webhooks into facts."),
    "aggregate": ("cli.aggregate", "Count facts."),
    "query": ("cli.query", "Read recipients and events for the API."),
    "load": ("cli.load", "Send realistic traffic through the webhooks."),
    "verify": ("cli.verify", "Recompute every number from a ledger and compare."),
    "reconcile": ("cli.reconcile", "Recompute from the recipients and compare."),
    "rebuild": ("cli.rebuild", "Make the state anew, from the recipients or from the log."),
    "accept-gap": ("cli.accept_gap", "Go on behind records of the log that are lost."),
    "export": ("cli.export", "Recipients or the event log of a campaign as CSV."),
    "dead": ("cli.dead", "Look at dead letters, send them once more."),
    "renormalize": (
        "cli.renormalize",
        "Read stored webhooks again: after a mended parser, or a wrong secret.",
    ),
    "erase": ("cli.erase", "Erase a person from all campaigns of an organisation."),
    "import": ("cli.import_", "Import saved webhook bodies."),
    "geo": ("cli.geo", "Fetch the City database that comes along."),
    "openapi": ("cli.openapi", "Print the API's OpenAPI document."),
    "lag": ("cli.lag", "Show the stream lag per partition."),
}


class LazyGroup(click.Group):
    """A group whose commands cost nothing until they are called; help comes from the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]}.command is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Campaign Reports: webhooks of e-mail service providers in, live campaign reports out."""


def main() -> None:
    """Run the command line and end the process with its status."""
    hangup.expect(next(iter(sys.argv[1:]), ""))
    try:
        status = run(sys.argv[1:])
    finally:
        hangup.end()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command line; gives its exit status."""
    try:
        result = group.main(args=arguments, prog_name="reports", standalone_mode=False)
    except ConfigError as error:
        return _refuse(arguments, _in_file(error), 2)
    except StateError as error:
        return _refuse(arguments, str(error), 3)
    except TryLater as error:
        return _complain(str(error), 3)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        return _refuse(arguments, str(of_file(error)), 3)
    except Exception as error:
        if not is_database_error(error):
            raise
        # Only now: it asks Kafka, whose client takes its time to import.
        words: str = importlib.import_module("cli.broken").words(error)
        return _refuse(arguments, words, 3)
    # click gives ctx.exit(status) back as the result when it isn't standalone.
    return result if isinstance(result, int) else 0


def _in_file(error: ConfigError) -> str:
    """With the file's name, where it is a file that is wrong: then more of it may be."""
    if error.in_file:
        return f"{error} (in {error.in_file}: `reports check` lists all that is wrong)"
    return str(error)


def _refuse(arguments: list[str], line: str, status: int) -> int:
    if (command := next(iter(arguments), "")) in hangup.ROLES:
        from cli.refusals import tell_refused

        tell_refused(command, line)
    return _complain(line, status)  # last: its parent takes the last line for the reason


def _complain(line: str, status: int) -> int:
    click.echo(f"reports: {line}", err=True)
    return status


if __name__ == "__main__":
    main()
