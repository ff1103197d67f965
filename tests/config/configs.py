"""Configurations in force, made of what a test writes down and the defaults."""

from typing import Any

from job.config.model import WrittenConfig
from job.config.settings import Config


def to_settings(**written: Any) -> Config:
    """Give what `written` means, after it was found valid."""
    return WrittenConfig.model_validate(written).to_settings()
