"""What an object store or the way to it says, as errors of ours: retry, fix or stop, and what to do.

The client library has few kinds of errors and long texts. What tells them apart is the status and the code in
the store's answer. Only these and the store's own sentence are shown: a whole text may hold addresses with
credentials in them.
"""

from __future__ import annotations

import re

from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError

from ksql_lake.errors import (
    ConfigError,
    KsqlLakeError,
    LakeError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)

STORE_ERRORS = (BaseError, FileNotFoundError)
"""What calls of the client library raise."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", re.IGNORECASE)
_BUSY_CODES = {"SlowDown", "ServerBusy", "ServiceUnavailable", "InternalError", "RequestTimeout"}
_REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "Missing credentials", "NoCredentials")
_ON_THE_WAY = ("error sending request", "timed out", "timeout", "connection", "error decoding response body")


def no_bucket(error: BaseException) -> bool:
    """Whether the store says that there is no such bucket, and not merely no such object."""
    return _NO_BUCKET.search(str(error)) is not None


def store_error(error: BaseException, *, address: str, doing: str) -> KsqlLakeError:
    """Give the error of ours for one of the client library's.

    Args:
        error: What the library raised.
        address: The object or folder it was about.
        doing: What was not possible: `read`, `listed`, `written`, `removed`.
    """
    text = str(error).partition("\n\nDebug source")[0]
    status = int(found.group(1)) if (found := _STATUS.search(text)) else 0
    code = found.group(1) if (found := _CODE.search(text)) else ""
    if no_bucket(error):
        hint = "Create it, or set KSQL_LAKE_ROOT to one that is there. Is the endpoint the right one?"
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
        hint = "Is the store up, and the endpoint right? It was tried several times; what is committed is safe."
        return StoreUnavailableError(
            f"could not be {doing}: the object store did not answer as it should{said}",
            hint=hint,
            path=address,
        )
    if isinstance(error, FileNotFoundError):
        hint = "Run `ksql-lake doctor` to see what else is missing."
        return LakeError(f"could not be {doing}: there is no such object", hint=hint, path=address)
    hint = "Look at the store; what is committed is safe."
    return StoreError(f"could not be {doing}{said}", hint=hint, path=address)


def _on_the_way(text: str) -> bool:
    return any(mark in text.lower() for mark in _ON_THE_WAY)


def _said(text: str, status: int, code: str) -> str:
    """Give what the store said, in short; the library's last words where it said nothing."""
    message = found.group(1) if (found := _MESSAGE.search(text)) else ""
    parts = [f"status {status}" if status else "", code, message.rstrip(".")]
    told = ", ".join(part for part in parts if part)
    if not told:
        last = text.rsplit(" - ", 1)[-1].strip().splitlines() or [""]
        told = re.sub(r"\b(\w+://)[^\s/@]*@", r"\1", re.sub(r"\?\S*", "", last[0]))[:200]
    return f" ({told})" if told else ""


def _bucket(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
