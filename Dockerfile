# ksql-lake as an image: code server, daemon, web server, Celery worker and command line, by the command it is given.
# Build:  docker build --tag ksql-lake .
# Every package is the very file, by its hash, that requirements.image.lock names.

FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY requirements.image.lock ./
# Only the packages come before the sources, so that a changed source does not install them anew.
RUN python -m venv /opt/ksql-lake \
 && /opt/ksql-lake/bin/pip install --no-cache-dir --require-hashes --requirement requirements.image.lock
COPY pyproject.toml README.md LICENSE ./
COPY ksql_lake ksql_lake
# The samples and the Dagster instance that the package carries.
COPY feeds feeds
COPY deploy/dagster.yaml deploy/dagster.yaml
RUN /opt/ksql-lake/bin/pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.12-slim-bookworm
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
RUN groupadd --gid 10001 lake && useradd --uid 10001 --gid lake --create-home --home-dir /home/lake lake \
 && install --directory --owner lake --group lake /app /app/feeds /app/data_lake /opt/dagster/dagster_home
COPY --from=build /opt/ksql-lake /opt/ksql-lake
ENV PATH=/opt/ksql-lake/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    KSQL_LAKE_FEEDS=/app/feeds \
    KSQL_LAKE_ROOT=/app/data_lake
WORKDIR /app
COPY --chown=lake:lake feeds feeds
USER 10001
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "ksql_lake.definitions"]
