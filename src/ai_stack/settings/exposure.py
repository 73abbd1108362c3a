"""Who can reach the gateway, and what it must have before it listens to more than this machine."""

from ai_stack.errors import SettingsError
from ai_stack.settings import Settings
from ai_stack.settings.wire import is_loopback

AUTHENTICATION = (
    "authentication: set AI_STACK_AUTH=required, and make the first key on this machine with "
    "`ai-stack keys create`"
)
TLS = (
    "TLS: set AI_STACK_TLS_CERTIFICATE and AI_STACK_TLS_KEY, or name the proxy that serves it in "
    "AI_STACK_TRUSTED_PROXIES"
)
CONTAINER = (
    "In a container whose port is published on the machine's loopback alone, say so by "
    "AI_STACK_PUBLISHED_HOST=127.0.0.1."
)


def is_wide(settings: Settings) -> bool:
    """Whether others than this machine's users may reach the gateway, a proxy's clients too."""
    address = settings.published_host or settings.host
    return bool(settings.trusted_proxies) or not is_loopback(address)


def check_exposure(settings: Settings, *, has_credentials: bool | None) -> None:
    """Refuse a gateway that is open to others; SettingsError says what is missing.

    `has_credentials`: there is a key, a user or an issuer, which AI_STACK_AUTH=auto goes by; None
    while nobody knows.
    """
    _check_pair(settings)
    if not is_wide(settings):
        return
    authenticates = settings.auth == "required" or (settings.auth == "auto" and has_credentials)
    unknown = settings.auth == "auto" and has_credentials is None
    safe = settings.tls_certificate is not None or settings.trusted_proxies
    if safe and (authenticates or unknown):
        return
    wanted = [*([] if authenticates else [AUTHENTICATION]), *([] if safe else [TLS])]
    raise SettingsError(_refusal(settings, wanted), fields={"AI_STACK_HOST": "refused"})


def _check_pair(settings: Settings) -> None:
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingsError("AI_STACK_TLS_CERTIFICATE and AI_STACK_TLS_KEY go together.")


def _refusal(settings: Settings, wanted: list[str]) -> str:
    address = settings.published_host or settings.host
    reason = f"The address {address} (AI_STACK_HOST) is reached by other machines"
    if is_loopback(address):
        reason = "Proxies (AI_STACK_TRUSTED_PROXIES) bring the requests of other machines"
    told = f"{reason}, so the gateway does not start without {'; and without '.join(wanted)}."
    return told if is_loopback(address) else f"{told} {CONTAINER}"
