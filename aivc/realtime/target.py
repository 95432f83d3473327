"""Where to connect: the URL that the operator gave, made into host, port, request target and headers."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit

import attrs

from aivc.config.models import resolve_model
from aivc.config.settings import OpenAISettings
from aivc.realtime.dialects import dialect_named

TLS_OF_SCHEME = {"wss": True, "https": True, "ws": False, "http": False}
DEFAULT_PORTS = {True: 443, False: 80}
# Each of these already says what answers: a model, an Azure deployment, a running call, a transcription session.
MODEL_PARAMETERS = frozenset({"model", "deployment", "call_id", "intent"})


@attrs.frozen
class Target:
    """One Realtime endpoint. A query may carry a key, as Azure allows, so only the place is ever printed."""

    url: str = attrs.field(repr=False)
    host: str  # name or IP address, IPv6 without brackets
    port: int
    tls: bool
    resource: str = attrs.field(repr=False)  # path and query, for the request line
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)  # credentials and dialect

    @property
    def authority(self) -> str:
        """What the Host header says: the port only when it is not the scheme's own (RFC 6455 section 4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.tls] else f"{host}:{self.port}"

    @property
    def endpoint(self) -> Target:
        """Only the place: what a connection depends on that is not upgraded yet. No credentials."""
        return Target("", self.host, self.port, self.tls, "", ())


def target(settings: OpenAISettings) -> Target:
    """Return the endpoint for these settings.

    `openai.url` may be a WebSocket or an HTTP URL, with or without the final `/realtime`, with or without a query.
    A retired model of OpenAI's own service is replaced by `resolve_model`.

    Raises:
        ValueError: the URL or the key cannot be used; the message shows neither query nor key.
    """
    try:
        parts = urlsplit(settings.url.strip())
        given_port = parts.port
    except ValueError:  # whose text may quote a password
        raise ValueError("openai.url: the host or the port is malformed") from None
    tls = TLS_OF_SCHEME.get(parts.scheme.lower())
    if tls is None or not parts.hostname:
        raise ValueError("openai.url: expected wss://HOST/PATH (or ws, https, http)")
    path = parts.path.rstrip("/")
    if not path.endswith("/realtime"):
        path += "/realtime"
    resource = f"{path}?{query(parts.query, settings)}".rstrip("?")
    if any(not "!" <= character <= "~" for character in resource):
        raise ValueError("openai.url: only visible ASCII characters may stand in a URL, write others as %XX")
    place = Target("", parts.hostname, given_port or DEFAULT_PORTS[tls], tls, resource, headers(settings))
    return attrs.evolve(place, url=f"{'wss' if tls else 'ws'}://{place.authority}{resource}")


def query(given: str, settings: OpenAISettings) -> str:
    """Return the given query, with the model added when nothing in it says what answers."""
    if MODEL_PARAMETERS & {name for name, _ in parse_qsl(given, keep_blank_values=True)}:
        return given
    model = f"model={quote(resolve_model(settings.model, settings.url).name, safe='')}"
    return f"{given}&{model}" if given else model


def headers(settings: OpenAISettings) -> tuple[tuple[str, str], ...]:
    """Return the credentials, if there are any, and what the dialect asks for."""
    dialect = dialect_named(settings.dialect).headers
    if settings.key is None:
        return dialect
    key = settings.key.reveal()
    if not key or any(not "!" <= character <= "~" for character in key):
        raise ValueError("openai.key: empty, or with a character that no HTTP header may carry")
    return (("Authorization", f"Bearer {key}"), *dialect)
