"""The Celery application of a worker: `celery -A ksql_lake.orchestration.celery_worker worker`."""

from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from ksql_lake.orchestration.execution import celery_arguments
from ksql_lake.settings import load_settings

# dagster-celery is only partly typed.
app = make_app(celery_arguments(load_settings()))  # type: ignore[no-untyped-call]
execute_plan = create_task(app)  # type: ignore[no-untyped-call]
