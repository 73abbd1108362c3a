"""Settings of what is logged, counted and traced."""

from typing import Literal

from pydantic import Field, field_validator

from ai_stack.settings.part import Part


class Telemetry(Part):
    """What the stack tells of itself."""

    log_format: Literal["text", "json"] = Field(
        "text", description="Form of the log's lines: `text` for people, `json` for machines."
    )
    access_log: bool = Field(
        False, description="Log every request: method, path, status and duration, no query."
    )
    slow_s: float = Field(
        0.5,
        gt=0,
        description="Seconds after which a request or a statement counts as slow and is reported.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector (OTLP over HTTP) that traces are sent to, such as "
        "http://127.0.0.1:4318; needs the extra `tracing`.",
    )
    otlp_sample: float = Field(
        1.0, ge=0, le=1, description="Share of the traces that begin here and are sent."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("it has to be like http://127.0.0.1:4318")
        return None if value is None else value.rstrip("/")
