"""A certificate authority that exists in memory, for this process and its tools only."""

from __future__ import annotations

import datetime
import os
import ssl
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE: Final = datetime.timedelta(days=30)
_FRESH: Final = datetime.timedelta(days=7)  # an older certificate is replaced
_SKEW: Final = datetime.timedelta(hours=1)  # a certificate is valid from an hour ago, for a clock that is late
_MOST: Final = 256  # certificates in the cache


class CertificateAuthority:
    """Makes a certificate for each server name, so that the proxy can open a tool's TLS connection."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Remit egress proxy of one process")])
        self._made: dict[str, tuple[datetime.datetime, ssl.SSLContext]] = {}
        self._certificate = self._root()

    @property
    def certificate(self) -> str:
        """The authority's own certificate, in PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def context(self, name: str) -> ssl.SSLContext:
        """TLS settings to act as the server `name`; HTTP/1.1 only."""
        now = _now()
        made, context = self._made.get(name, (None, None))
        if made is None or context is None or now - made > _FRESH:
            if len(self._made) >= _MOST:
                self._made.clear()
            context = self._context(name)
            self._made[name] = (now, context)
        return context

    def pair(self, name: str) -> bytes:
        """A certificate for `name` and its key, in PEM."""
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._leaf(name).public_bytes(serialization.Encoding.PEM) + key

    def _context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # The ssl module reads certificates from files only. A memory file keeps the key off the disk.
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, self.pair(name))
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context

    def _root(self) -> x509.Certificate:
        now = _now()
        return (
            self._builder(self._name, self._key.public_key())
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(self, name: str) -> x509.Certificate:
        subject = x509.Name([])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            self._builder(subject, self._leaf_key.public_key())
            .not_valid_after(_now() + _LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - _SKEW)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
