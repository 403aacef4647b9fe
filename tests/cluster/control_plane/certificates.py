"""The certificates of a control plane: ECDSA P-256, good for a day, with their keys in a folder that only the owner reads.

A client is who its certificate says: the common name is the user, each organisation a group. A second authority vouches for the API
server towards servers that extend it, and for nothing else, so that no client's certificate passes for the API server there.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ADMIN_GROUP = "system:masters"
LIFETIME = datetime.timedelta(days=1)
CLOCK_TOLERANCE = datetime.timedelta(hours=1)
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
SERVER_ADDRESSES = ("127.0.0.1", "10.96.0.1")
"""Loopback, and the first address of Services, which is the API server's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> Pair:
        return cls(folder / f"{name}.crt", folder / f"{name}.key")


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        """Makes a key and signs itself."""
        self._folder = folder
        self.pair = Pair.named(folder, name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self._subject, self._key).add_extension(constraints, critical=True)
        _keep(self.pair, self._key, certificate.sign(self._key, hashes.SHA256()))

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """A certificate for a user."""
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        return self._issue(user.rpartition(":")[2], subject, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, name: str, *more_names: str) -> Pair:
        """A certificate for servers on loopback, and what else they are called."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(each) for each in (*SERVER_NAMES, *more_names)]
        addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in SERVER_ADDRESSES]
        return self._issue(
            name, subject, ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName([*names, *addresses])
        )

    def _issue(self, name: str, subject: x509.Name, usage: x509.ObjectIdentifier, *more: x509.ExtensionType) -> Pair:
        pair, key = Pair.named(self._folder, name), ec.generate_private_key(ec.SECP256R1())
        certificate = self._builder(subject, key)
        for extension in (x509.ExtendedKeyUsage([usage]), *more):
            certificate = certificate.add_extension(extension, critical=False)
        _keep(pair, key, certificate.sign(self._key, hashes.SHA256()))
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._subject)
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(now + LIFETIME)
        )


def signing_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A key for tokens: the files of its private and its public half."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    key = ec.generate_private_key(ec.SECP256R1())
    _keep_key(private, key)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _keep(pair: Pair, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _keep_key(pair.key, key)
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _keep_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
