"""The contents of an alert: title, text, and facts for programs, all without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from ksql_lake.errors import without_secrets
from ksql_lake.settings import Settings

_SHORTEST = 4
"""Shorter secrets are not searched for: they would match ordinary words."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One event that people should know of.

    Attributes:
        kind: `run_failure`, `failed_checks`, `topic_retention`, `freshness` or `test`.
        title: What happened, one line.
        text: The details, several lines; may be empty.
        facts: Name -> value, for programs that receive the alert.
    """

    kind: str
    title: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_text(self) -> str:
        """Title and text."""
        return f"{self.title}\n{self.text}".strip()

    def without_secrets(self, settings: Settings) -> Alert:
        """Return the alert with every secret of the settings hidden in title, text and facts."""
        return replace(
            self,
            title=" ".join(hide_secrets(self.title, settings).split()),
            text=hide_secrets(self.text, settings),
            facts={name: hide_secrets(value, settings) for name, value in self.facts.items()},
        )


def hide_secrets(text: str, settings: Settings) -> str:
    """Return a text without the passwords, tokens and addresses that the settings keep secret."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return without_secrets(text, *(secret for secret in secrets if len(secret) >= _SHORTEST))
