"""Alerts: to the log, and to the webhook and e-mail addresses of the settings."""

from __future__ import annotations

from ksql_lake.alerts.delivery import Delivery, channels, send_alert
from ksql_lake.alerts.message import Alert

__all__ = ["Alert", "Delivery", "channels", "send_alert"]
