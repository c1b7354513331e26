"""Certificates for servers and clients of a test: an authority of its own, and a rival."""

import subprocess
from pathlib import Path

#: Name, what it may be used for, and who signs it.
_SIGNED = (
    ("server", "serverAuth", "ca"),
    ("client", "clientAuth", "ca"),
    ("stranger", "clientAuth", "rival"),
)


def make_certificates(folder: Path) -> Path:
    """An authority and its certificates for a server and a client; a rival and its client.

    ``NAME.pem`` and ``NAME.key`` for ca, rival, server (which is localhost), client and stranger;
    ``NAME.both`` has certificate and key in one file, as MongoDB wants them.
    The folder is returned.
    """
    for name in ("ca", "rival"):
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN=test {name}", "-keyout", folder / f"{name}.key"),
            *("-out", folder / f"{name}.pem"),
        )
    for name, use, signer in _SIGNED:
        request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        extensions.write_text(f"subjectAltName=DNS:localhost\nextendedKeyUsage={use}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-days", "2", "-CAcreateserial"),
            *("-CA", folder / f"{signer}.pem", "-CAkey", folder / f"{signer}.key"),
            *("-extfile", extensions, "-out", certificate),
        )
        (folder / f"{name}.both").write_text(certificate.read_text() + key.read_text())
    for secret in (*folder.glob("*.key"), *folder.glob("*.both")):
        secret.chmod(0o600)
    return folder


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)
