"""`python -m bench`: what aivc costs, measured by programs that are not aivc."""

from __future__ import annotations

from typing import Any

import click

from bench.answer import answer
from bench.budget import budget
from bench.compare import compare
from bench.compiling import CompileError
from bench.generator import GeneratorError
from bench.most import most
from bench.run import run
from bench.setup import setup
from bench.smoke import smoke
from bench.soak import soak


class Commands(click.Group):
    """Commands whose failures are told in words."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CompileError, GeneratorError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands)
def main() -> None:
    """Measure aivc from outside: callers and a model that know every octet, on another core."""


for command in (run, most, compare, setup, answer, soak, smoke, budget):
    main.add_command(command)

if __name__ == "__main__":
    main()
