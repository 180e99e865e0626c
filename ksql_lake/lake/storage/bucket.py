"""Open a bucket from an address such as `s3://bucket/prefix`, and turn its errors into ours."""

# Credentials come from the usual environment, never from the address, and are never shown.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from ksql_lake.errors import (
    ConfigError,
    KsqlLakeError,
    LakeError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from ksql_lake.settings import StoreSettings, load_store_settings

STORE_ERRORS = (BaseError, FileNotFoundError)
"""The errors that the client library raises."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", re.IGNORECASE)
_BUSY_CODES = {"SlowDown", "ServerBusy", "ServiceUnavailable", "InternalError", "RequestTimeout"}
_REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "Missing credentials", "NoCredentials")
_ON_THE_WAY = ("error sending request", "timed out", "timeout", "connection", "error decoding response body")

SCHEMES = ("s3", "gs", "az")
_TIMEOUT = timedelta(seconds=120)
"""How long one request may take; a large file takes many requests."""

_RETRY = {
    "max_retries": 200,  # the time is the limit
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""A request that the store answers with 5xx or 429, or does not answer, is sent again for a minute."""


def no_bucket(error: BaseException) -> bool:
    """Whether the store reports that the bucket does not exist, and not only the object."""
    return _NO_BUCKET.search(str(error)) is not None


def store_error(error: BaseException, *, address: str, doing: str) -> KsqlLakeError:
    """Return our error for one of the client library.

    Args:
        error: What the library raised.
        address: The object or folder of the request.
        doing: What failed: `read`, `listed`, `written`, `removed`.
    """
    text = str(error).partition("\n\nDebug source")[0]
    status = int(found.group(1)) if (found := _STATUS.search(text)) else 0
    code = found.group(1) if (found := _CODE.search(text)) else ""
    if no_bucket(error):
        hint = "Create it, or set KSQL_LAKE_ROOT to one that exists. Is the endpoint the right one?"
        return ConfigError("there is no such bucket", hint=hint, path=_bucket(address))
    if "builder error" in text:
        hint = "Set AWS_ALLOW_HTTP=true (GOOGLE_ or AZURE_ for theirs) if it really has no TLS."
        return ConfigError("the store's address begins with http://, not https://", hint=hint, path=address)
    said = _said(text, status, code)
    if any(mark in text for mark in _NO_CREDENTIALS):
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or those of your store."
        return StoreRefusedError("no credentials for the object store were found", hint=hint, path=address)
    if code in _REGION_CODES or status in {301, 307}:
        hint = "Set AWS_REGION to the bucket's region, and AWS_ENDPOINT_URL only for a store that is not AWS."
        return ConfigError(f"the bucket is elsewhere{said}", hint=hint, path=address)
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in {401, 403}
    if refused:
        hint = "Check the credentials, and that they may list, read, write and delete below this address."
        return StoreRefusedError(
            f"could not be {doing}: the object store refused{said}", hint=hint, path=address
        )
    if isinstance(error, NotSupportedError) or status == 501:
        hint = "The lake needs conditional writes (If-None-Match), copies and lists; see docs/object-stores.md."
        return ConfigError(f"the object store cannot do what the lake needs{said}", hint=hint, path=address)
    if status == 429 or status >= 500 or code in _BUSY_CODES or (not status and _on_the_way(text)):
        hint = "Is the store up, and the endpoint right? It was tried several times; committed rows are safe."
        return StoreUnavailableError(
            f"could not be {doing}: the object store did not answer as it should{said}",
            hint=hint,
            path=address,
        )
    if isinstance(error, FileNotFoundError):
        hint = "Run `ksql-lake doctor` to see what else is missing."
        return LakeError(f"could not be {doing}: there is no such object", hint=hint, path=address)
    hint = "Look at the store; committed rows are safe."
    return StoreError(f"could not be {doing}{said}", hint=hint, path=address)


def _on_the_way(text: str) -> bool:
    return any(mark in text.lower() for mark in _ON_THE_WAY)


def _said(text: str, status: int, code: str) -> str:
    """Return the store's answer in short, in brackets; the end of the library's error if there was none."""
    message = found.group(1) if (found := _MESSAGE.search(text)) else ""
    parts = [f"status {status}" if status else "", code, message.rstrip(".")]
    short = ", ".join(part for part in parts if part)
    if not short:
        last = text.rsplit(" - ", 1)[-1].strip().splitlines() or [""]
        short = re.sub(r"\b(\w+://)[^\s/@]*@", r"\1", re.sub(r"\?\S*", "", last[0]))[:200]
    return f" ({short})" if short else ""


def _bucket(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A lake's prefix in a bucket, and the client for it.

    Attributes:
        root: The address, without a slash at the end.
        store: The client; keys are relative to the root.
    """

    root: str
    store: ObjectStore


def open_bucket(root: str) -> Bucket:
    """Return the bucket of a lake's address; sends no request.

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
    """Split an address into its scheme and the rest, which is bucket and prefix."""
    found = urlsplit(root)
    scheme = found.scheme
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            f"KSQL_LAKE_ROOT begins with {scheme}://, which is no known object store",
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
    """Return the credentials of an AWS profile, renewed as they expire."""
    try:
        # Only profiles need boto3, and its import is slow.
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
