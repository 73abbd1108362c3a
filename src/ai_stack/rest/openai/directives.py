"""What the headers of an inference say about how it is to be worked on."""

from collections.abc import Iterable

from ai_stack.errors import InvalidRequest
from ai_stack.models.departure import Departure
from ai_stack.models.inference import PLAIN, CachePolicy, Options

CACHE, PRIORITY, TIMEOUT = b"cache-control", b"x-priority", b"x-timeout"
READ = (CACHE, PRIORITY, TIMEOUT)


def options_of(
    headers: Iterable[tuple[bytes, bytes]], departure: Departure | None = None
) -> Options:
    """Cache-Control as in RFC 9111; X-Priority: batch; X-Timeout: seconds."""
    found = {name: value.decode("latin-1") for name, value in headers if name in READ}
    if not found:
        return PLAIN if departure is None else Options(departure=departure)
    priority = found.get(PRIORITY, "interactive")
    if priority not in ("interactive", "batch"):
        raise _wrong("X-Priority", "interactive or batch")
    cache = _policy(found[CACHE]) if CACHE in found else CachePolicy()
    timeout_s = _seconds(found[TIMEOUT]) if TIMEOUT in found else None
    return Options(cache, priority, timeout_s, departure)  # type: ignore[arg-type]


def _policy(text: str) -> CachePolicy:
    said = dict(_directive(part) for part in text.lower().split(",") if part.strip())
    longest = said.get("max-age")
    longest_s = int(longest[:9]) if longest is not None and longest.isdecimal() else None
    return CachePolicy(
        reads="no-cache" not in said and "no-store" not in said and longest_s != 0,
        stores="no-store" not in said,
        asked=bool(longest_s),
        only="only-if-cached" in said,
        longest_s=longest_s or None,
    )


def _directive(part: str) -> tuple[str, str]:
    name, _, value = part.strip().partition("=")
    return name.strip(), value.strip().strip('"')


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 86_400:
        raise _wrong("X-Timeout", "seconds, up to 86400")
    return found


def _wrong(name: str, form: str) -> InvalidRequest:
    return InvalidRequest(f"{name} must be {form}.", fields={name: form})
