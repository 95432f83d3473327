"""Certificates: what we show, whom we believe (RFC 3261 section 26.2.1, RFC 5922)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable

import attrs

from aivc import logs
from aivc.config.settings import SipSettings

log = logging.getLogger("aivc.sip")


class CertificateError(OSError):
    """A PEM file cannot be used; says which, whose setting it is, and why."""


@attrs.define(eq=False)
class Certificates:
    """The TLS contexts of new connections; running ones keep what they have.

    Attributes:
      server: for connections made to us; None when there is no `tls:` entry in `sip.listen`.
      client: for connections made by us.
    """

    settings: SipSettings
    server: ssl.SSLContext | None = attrs.field(init=False, default=None)
    _client: ssl.SSLContext | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Raises CertificateError."""
        self._read()

    @property
    def client(self) -> ssl.SSLContext:
        if self._client is None:
            self._client = client_context(self.settings)
        return self._client

    def reload(self) -> bool:
        """Read the files again; keep what there is when one of them cannot be used, and say so."""
        try:
            self._read()
        except CertificateError as error:
            logs.event(log, "sip.certificates_kept", level=logging.ERROR, cause=str(error))
            return False
        if self.server is not None or self._client is not None:
            logs.event(log, "sip.certificates_read", certificate=self.settings.tls_certificate)
        return True

    def _read(self) -> None:
        """The system's authorities, dozens of milliseconds of work, are read when they are needed."""
        has_files = self.settings.tls_ca is not None or self.settings.tls_certificate is not None
        listens = any(entry.startswith("tls:") for entry in self.settings.listen)
        server = server_context(self.settings) if listens else None
        self._client = client_context(self.settings) if has_files else None
        self.server = server


def server_context(settings: SipSettings) -> ssl.SSLContext:
    if settings.tls_certificate is None:
        raise CertificateError("sip.listen has a tls: entry, and sip.tls_certificate is not set")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    load_certificate(context, settings)
    if settings.tls_client_ca is not None:
        load_authorities(context, "sip.tls_client_ca", settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: SipSettings) -> ssl.SSLContext:
    """Names are checked against the certificate, and ours is shown to servers that ask for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    harden(context)
    if settings.tls_ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        load_authorities(context, "sip.tls_ca", settings.tls_ca)
    if settings.tls_certificate is not None:
        load_certificate(context, settings)
    return context


def harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # older ones are deprecated, RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION  # each would cost us a handshake, and them one record


def load_certificate(context: ssl.SSLContext, settings: SipSettings) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate is not None

    def refuse_password() -> str:  # else OpenSSL would ask for it at the terminal
        raise CertificateError(f"cannot use the key {key or certificate} (sip.tls_key): it is protected by a password")

    name = f"the certificate {certificate} (sip.tls_certificate)"
    readable(certificate, name)
    if key is not None:
        readable(key, f"the key {key} (sip.tls_key)")
        name += f" with the key {key} (sip.tls_key)"
    load(name, lambda: context.load_cert_chain(certificate, key, refuse_password))


def load_authorities(context: ssl.SSLContext, setting: str, path: str) -> None:
    name = f"the authorities {path} ({setting})"
    readable(path, name)
    load(name, lambda: context.load_verify_locations(path))


def readable(path: str, name: str) -> None:
    """Find out what OpenSSL does not say: which file is missing. Raises CertificateError."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise CertificateError(f"cannot read {name}: {error.strerror}") from error


def load(name: str, read: Callable[[], None]) -> None:
    try:
        read()
    except CertificateError:
        raise
    except (OSError, ValueError) as error:
        reason = (error.reason if isinstance(error, ssl.SSLError) else None) or error
        raise CertificateError(f"cannot use {name}: {str(reason).replace('_', ' ').lower()}") from error
