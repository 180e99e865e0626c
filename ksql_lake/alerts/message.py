"""What an alert says: a line for a subject, a text, facts for programs. Secrets are taken out of all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from ksql_lake.errors import without_secrets
from ksql_lake.settings import Settings

_SHORTEST = 4
"""A shorter secret is not looked for: it would be found in every second word."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that somebody should know.

    Attributes:
        kind: `run_failure`, `failed_checks`, `topic_retention`, `freshness` or `test`.
        title: What happened, one line.
        text: The whole story, several lines; may be empty.
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
        """The alert with every secret of the settings hidden, wherever an error text may have put one."""
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
