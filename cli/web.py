"""`python -m cli.web ARGUMENTS…`: npm in `web/`, with the machine's Node or the wheel's (`cli.node`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from app.errors import ConfigError
from cli.config import ensure_data_folder, load_settings
from cli.node import npm_command

FOLDER: Final = Path(__file__).parents[1] / "web"


def run(arguments: list[str]) -> int:
    """npm's exit status. Raises ConfigError where there is no npm and none can be installed."""
    settings = load_settings()
    ensure_data_folder(settings.data)
    npm = npm_command(settings.data.absolute() / "node", click.echo)
    # What npm starts looks for `node` on the path, where the wheel's is not.
    first = Path(npm[0]).parent
    environ = {**os.environ, "PATH": f"{first}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return subprocess.run([*npm, *arguments], cwd=FOLDER, env=environ, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except ConfigError as error:
        click.echo(error, err=True)
        sys.exit(2)
