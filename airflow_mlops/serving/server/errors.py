# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the model server: what ends it before it serves, and what is answered to a client. One class a failure."""

from __future__ import annotations

from collections.abc import Mapping


class ServerError(Exception):
    """The server cannot serve. The message says where, what is wrong, what was expected and what to do."""


class SettingsInvalid(ServerError):
    """The environment variables are not what the server takes."""


class ModelRefused(ServerError):
    """The model is not the one that was asked for, not of an allowed format, or not one that can be served."""


class PackageMissing(ServerError):
    """A library that a model of this format needs is not installed."""


class Refused(Exception):
    """
    A request is not served. The message is what the client reads.

    :param status: of HTTP
    :param reason: one word for metrics and the log
    :param headers: of the answer
    """

    status = 500
    reason = "failed"

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})
        super().__init__(message)


class Unauthorized(Refused):
    """The token is missing or another one."""

    status, reason = 401, "unauthorized"

    def __init__(self) -> None:
        message = "this server wants its token; send the header Authorization: Bearer TOKEN"
        super().__init__(message, {"www-authenticate": "Bearer"})


class RequestInvalid(Refused):
    """A request is not one of the protocol, or does not fit the model."""

    status, reason = 400, "invalid"


class NotServed(Refused):
    """Another model or another version of it is asked for than the one that is served."""

    status, reason = 404, "not_served"


class TooSlow(Refused):
    """A request did not arrive in time."""

    status, reason = 408, "slow"


class TooLarge(Refused):
    """The body of a request is larger than allowed."""

    status, reason = 413, "large"


class EncodingRefused(Refused):
    """A body is compressed or of another form than JSON."""

    status, reason = 415, "encoding"


class TooMany(Refused):
    """As many requests wait as may wait."""

    status, reason = 429, "busy"

    def __init__(self, message: str) -> None:
        super().__init__(message, {"retry-after": "1"})


class ModelFailed(Refused):
    """The model raised something. What, is in the log alone."""

    status, reason = 500, "failed"


class Unready(Refused):
    """The server loads its model, ends, has no memory or place left, or is not the one that was meant."""

    status, reason = 503, "unready"

    def __init__(self, message: str) -> None:
        super().__init__(message, {"retry-after": "1"})


class TimedOut(Refused):
    """The model did not answer in time."""

    status, reason = 504, "timeout"
