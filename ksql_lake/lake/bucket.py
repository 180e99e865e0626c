"""From an address such as `s3://bucket/prefix` to the client that reads and writes below it.

Credentials, region and endpoint come from the usual environment, which the client library reads itself; they
are never taken from the address, kept or shown. It refuses plain HTTP unless the environment allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from ksql_lake.errors import ConfigError
from ksql_lake.lake.store_errors import store_error
from ksql_lake.settings import StoreSettings, load_store_settings

SCHEMES = ("s3", "gs", "az")

_TIMEOUT = timedelta(seconds=120)
"""How long one request may take; large files travel in many."""

_RETRY = {
    "max_retries": 200,  # the time limits them
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""A request that the store answers with 5xx, 429 or not at all is tried again for a minute."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a lake is in an object store.

    Attributes:
        root: Its address, without a slash at the end.
        store: The client; keys are relative to the root.
    """

    root: str
    store: ObjectStore


def open_bucket(root: str) -> Bucket:
    """Give the client of a lake's address; sends nothing.

    Raises:
        ConfigError: The address or the environment cannot be used.
    """
    scheme, rest = _parts(root)
    options = _options(scheme, load_store_settings())
    try:
        store = from_url(f"{scheme}://{rest}", **options)
    except (BaseError, ValueError) as error:
        raise store_error(error, address=root, doing="opened") from error
    return Bucket(f"{scheme}://{rest}", store)


def _parts(root: str) -> tuple[str, str]:
    """Split an address into its scheme and the rest, which is the bucket and what is below it."""
    found = urlsplit(root)
    scheme = found.scheme
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            f"KSQL_LAKE_ROOT begins with {scheme}://, which is no object store known here",
            hint=f"Use a folder, or an address that begins with {known}.",
        )
    if "@" in found.netloc or ":" in found.netloc or found.query or found.fragment:
        raise ConfigError(
            f"KSQL_LAKE_ROOT must be {scheme}://BUCKET/PREFIX and nothing else",
            hint="Credentials and the endpoint come from the environment; see docs/object-stores.md.",
        )
    folders = [part for part in found.path.split("/") if part]
    if not found.netloc or {".", ".."} & set(folders):
        raise ConfigError(f"KSQL_LAKE_ROOT must name a bucket: {scheme}://BUCKET/PREFIX", path=root)
    return scheme, "/".join([found.netloc, *folders])


def _options(scheme: str, settings: StoreSettings) -> Mapping[str, Any]:
    allowed = {"s3": settings.s3_allow_http, "gs": settings.gcs_allow_http, "az": settings.azure_allow_http}
    client: dict[str, Any] = {"timeout": _TIMEOUT, "allow_http": allowed[scheme]}
    if settings.ca_bundle is not None:
        client["root_certificate"] = settings.ca_bundle.read_bytes()
    options: dict[str, Any] = {"client_options": client, "retry_config": _RETRY}
    if scheme == "s3" and settings.profile and settings.access_key is None:
        options["credential_provider"] = _profile(settings.profile)
    return options


def _profile(name: str) -> object:
    """Give the credentials of an AWS profile, renewed as they expire."""
    try:
        # Only profiles need it, and it takes long to import.
        from boto3.session import Session  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "AWS_PROFILE is set, but boto3, which reads profiles, is not installed",
            hint="pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
        ) from None
    try:
        return Boto3CredentialProvider(Session(profile_name=name))
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"the credentials of the AWS profile {name} cannot be used: {error}",
            hint="Correct AWS_PROFILE, or the files in ~/.aws.",
        ) from error
