"""The settings of the commands that people type."""

import os

import click

from services.settings import Settings, SettingsError


def settings() -> Settings:
    """What the environment says.

    Raises:
        click.ClickException: with every problem that it has.

    """
    try:
        return Settings.from_env(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
