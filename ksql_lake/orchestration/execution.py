"""Where a run's steps execute: in the run's own process, or on Celery workers."""

# No broker address enters Dagster's configuration, because everyone who can open the UI can read that.

import importlib
from typing import Any

import dagster as dg

from ksql_lake.errors import SettingsError
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings

_SWEEP_SECONDS = 10


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor of every job that exports.

    Raises:
        SettingsError: Celery is asked for and not installed.
    """
    if settings.executor == "in_process":
        return dg.in_process_executor
    try:
        celery = importlib.import_module("dagster_celery")
    except ImportError:
        raise SettingsError(
            "KSQL_LAKE_EXECUTOR=celery needs packages that are not installed",
            hint="Install them with pip install 'ksql-lake[celery]', here and on every worker.",
        ) from None
    arguments = celery_arguments(settings)
    # A function supplies it, because the UI shows a value as the job's configuration.
    configured: dg.ExecutorDefinition = celery.celery_executor.configured(
        lambda _: arguments, config_schema={}, name="celery"
    )
    return configured


def job_executor(scope: Scope) -> dg.ExecutorDefinition | None:
    """Return the executor of a scope's jobs; None if it is that of the code location.

    Raises:
        SettingsError: Celery is asked for and not installed.
    """
    return None if scope.whole_location else executor(scope.settings)


def celery_arguments(settings: Settings) -> dict[str, Any]:
    """Return broker, backend and Celery's settings, the same for the senders of steps and the workers.

    Two workers may execute a step at once: if a worker is slow, another one gets the step after the visibility
    timeout. The lake's commits make that harmless; see docs/deployment.md.
    """
    broker = settings.celery_broker.get_secret_value()
    transport = {
        "visibility_timeout": settings.celery_visibility_timeout,
        # Kombu looks for abandoned steps every `interval * throttle` seconds; with its defaults that is 100.
        "unacked_restore_interval": _SWEEP_SECONDS,
        "unacked_restore_throttle": 1,
        "socket_keepalive": True,
        "health_check_interval": 25,
        # The broker may be restarted: sending a step fails after about half a minute.
        "max_retries": 20,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 2,
    }
    return {
        "broker": broker,
        "backend": settings.celery_backend.get_secret_value() if settings.celery_backend else broker,
        "config_source": {
            # A step stays in the broker until it is done, so that another worker can take it over ...
            "task_acks_late": True,
            # ... also if only the worker's child process was killed, e.g. by the kernel for lack of memory.
            "task_reject_on_worker_lost": True,
            # A worker takes only steps that it can start at once.
            "worker_prefetch_multiplier": 1,
            "broker_connection_retry_on_startup": True,
            "broker_transport_options": transport,
            "result_backend_transport_options": {
                "visibility_timeout": settings.celery_visibility_timeout,
                "retry_policy": {"timeout": 30.0},
            },
            "redis_socket_keepalive": True,
            "redis_retry_on_timeout": True,
        },
    }
