"""An authority of our own, and what the service and the telephones show each other."""

from __future__ import annotations

from pathlib import Path

import trustme


def write_certificates(folder: Path, *hosts: str) -> None:
    """`ca.pem`; `service.pem` for these hosts and `telephone.pem`, each with its private key."""
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    write_certificate(folder / "service.pem", authority, *hosts)
    write_certificate(folder / "telephone.pem", authority, "telephone.example.com")


def write_certificate(path: Path, authority: trustme.CA, *hosts: str) -> None:
    path.write_bytes(authority.issue_cert(*hosts).private_key_and_cert_chain_pem.bytes())
