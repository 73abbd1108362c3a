"""Every failure that the stack raises on purpose; it knows no face.

AIStackError                    500 internal_error
├── SettingsError               500 invalid_settings
├── InvalidRequest              422 invalid_request
│   ├── InvalidFilter           422 invalid_filter
│   ├── InvalidCursor           422 invalid_cursor
│   ├── ContextTooLong          422 context_length_exceeded
│   └── ModelTooLarge           422 model_too_large
├── Unauthenticated             401 unauthenticated
├── Forbidden                   403 forbidden
│   └── PasswordExpired         403 password_expired
├── NotFound                    404 not_found
│   └── ModelNotFound           404 model_not_found
├── MethodNotAllowed            405 method_not_allowed
├── Conflict                    409 conflict
│   ├── AlreadyExists           409 already_exists
│   └── IdempotencyMismatch     422 idempotency_mismatch
├── TooSlow                     408 request_timeout
├── PreconditionFailed          412 precondition_failed
├── TooLarge                    413 too_large
├── Unsupported                 415 unsupported_media_type
├── TooBusy                     429 too_busy
├── LimitExceeded               429 rate_limit_exceeded
├── Unavailable                 503 unavailable
│   ├── DatabaseUnavailable     503 database_unavailable
│   ├── VectorsUnavailable      503 vectors_unavailable
│   ├── EmbedderUnavailable     503 embedder_unavailable
│   └── EngineUnavailable       503 engine_unavailable
├── SkillFailed                 422 skill_failed
├── EngineFailed                502 engine_failed
│   └── EngineBroken            502 engine_broken
├── StorageFull                 507 storage_full
├── DeadlineExceeded            504 deadline_exceeded
└── StackError                  500 stack_error (the supervisor's)

A class's docstring is its default message; `status` and `code` are what a face shows.
"""

from collections.abc import Mapping
from typing import ClassVar


class AIStackError(Exception):
    """Something went wrong inside the stack; the log has the details under this request id."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str = "", *, fields: Mapping[str, str] | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.fields = dict(fields or {})
        super().__init__(self.message)


class SettingsError(AIStackError):
    """A setting has a value that the stack cannot use."""

    code = "invalid_settings"


class InvalidRequest(AIStackError):
    """The request does not have the form that this operation takes."""

    status, code = 422, "invalid_request"


class InvalidFilter(InvalidRequest):
    """The filter is not of the filter language."""

    code = "invalid_filter"


class InvalidCursor(InvalidRequest):
    """The cursor is not one that this list gave out."""

    code = "invalid_cursor"


class ContextTooLong(InvalidRequest):
    """The request has more tokens than this model's context holds."""

    code = "context_length_exceeded"


class ModelTooLarge(InvalidRequest):
    """This model needs more memory than this machine has."""

    code = "model_too_large"


class SkillFailed(AIStackError):
    """The skill could not do what it was asked for."""

    status, code = 422, "skill_failed"


class Unauthenticated(AIStackError):
    """This request needs valid credentials."""

    status, code = 401, "unauthenticated"


class Forbidden(AIStackError):
    """These credentials do not allow this operation."""

    status, code = 403, "forbidden"


class PasswordExpired(Forbidden):
    """This password is good for choosing another one alone: change it first."""

    code = "password_expired"


class NotFound(AIStackError):
    """There is nothing here under this id."""

    status, code = 404, "not_found"


class ModelNotFound(NotFound):
    """No engine serves this model; GET /v1/models lists those that are served."""

    code = "model_not_found"


class MethodNotAllowed(AIStackError):
    """This path takes another method; /docs lists them."""

    status, code = 405, "method_not_allowed"


class Conflict(AIStackError):
    """The request contradicts the present state."""

    status, code = 409, "conflict"


class AlreadyExists(Conflict):
    """This id is taken in this project."""

    code = "already_exists"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used before with another request."""

    status, code = 422, "idempotency_mismatch"


class PreconditionFailed(AIStackError):
    """The document has changed since the version that If-Match names."""

    status, code = 412, "precondition_failed"


class TooSlow(AIStackError):
    """The body of this request did not come in time; send it again, faster."""

    status, code = 408, "request_timeout"


class TooLarge(AIStackError):
    """The request is larger than this gateway accepts."""

    status, code = 413, "too_large"


class Unsupported(AIStackError):
    """The stack cannot read files of this type."""

    status, code = 415, "unsupported_media_type"


class TooBusy(AIStackError):
    """Too much work is waiting already; try again shortly."""

    status, code = 429, "too_busy"


class LimitExceeded(AIStackError):
    """A limit of this key or project is reached; Retry-After says when it opens again."""

    status, code = 429, "rate_limit_exceeded"

    def __init__(
        self, message: str = "", *, fields: Mapping[str, str] | None = None, opens_in_s: int = 1
    ) -> None:
        super().__init__(message, fields=fields)
        self.opens_in_s = opens_in_s


class Unavailable(AIStackError):
    """A part that this operation needs does not answer; try again shortly."""

    status, code = 503, "unavailable"


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer; try again shortly."""

    code = "database_unavailable"


class VectorsUnavailable(Unavailable):
    """The vector engine does not answer; try again shortly."""

    code = "vectors_unavailable"


class EmbedderUnavailable(Unavailable):
    """The embedder does not answer; try again shortly."""

    code = "embedder_unavailable"


class EngineUnavailable(Unavailable):
    """No engine that serves this model answers; try again shortly."""

    code = "engine_unavailable"


class EngineFailed(AIStackError):
    """The engine failed at this request; its own log tells more."""

    status, code = 502, "engine_failed"


class EngineBroken(EngineFailed):
    """The engine broke off in the middle of its answer; what came is incomplete."""

    code = "engine_broken"


class StorageFull(AIStackError):
    """The disk is full; free some space and send the request again."""

    status, code = 507, "storage_full"


class DeadlineExceeded(AIStackError):
    """The work did not finish within its deadline."""

    status, code = 504, "deadline_exceeded"


class StackError(AIStackError):
    """The stack cannot do this in its present state."""

    code = "stack_error"


# What a body is refused for on its way in, by the status that stands for it there.
REFUSED_BODIES: Mapping[int, type[AIStackError]] = {
    kind.status: kind for kind in (TooSlow, TooLarge, TooBusy)
}
