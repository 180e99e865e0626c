"""Telling people: an alert goes to the log, and to a webhook and by e-mail where the settings name them."""

from __future__ import annotations

from ksql_lake.alerts.delivery import Delivery, channels, send_alert
from ksql_lake.alerts.message import Alert

__all__ = ["Alert", "Delivery", "channels", "send_alert"]
