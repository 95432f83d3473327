"""`python -m bench`: what aivc costs, measured by programs that are not aivc."""

from __future__ import annotations

import click

from bench.setup import setup


@click.group()
def main() -> None:
    """Measure; every command says what it runs."""


main.add_command(setup)

if __name__ == "__main__":
    main()
