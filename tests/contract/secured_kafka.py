"""A broker that asks who you are: SASL_SSL with SCRAM, a certificate of its own, and rights per principal."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.backends import kafka as plain
from tests.backends.cache import filled
from tests.backends.process import LOOPBACK, Server, answers, free_port, program, serve

USERS = {"writer": "a made-up secret", "nobody": "another"}
_SETTINGS = """
listeners=SASL_SSL://{host}:{port},PLAINTEXT://{host}:{admin},CONTROLLER://{host}:{controller}
advertised.listeners=SASL_SSL://{host}:{port},PLAINTEXT://{host}:{admin}
controller.quorum.voters=1@{host}:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
log.dirs={data}
"""
_REPLACED = ("listeners=", "advertised.listeners=", "controller.quorum.voters=", "listener.security", "log.dirs=")


class Secured:
    """Where the broker is: for users with a password, and for the operator of this test."""

    def __init__(self, server: Server, admin: str, authority: Path) -> None:
        self.bootstrap = server.address
        self.admin = admin
        self.authority = authority


@contextmanager
def secured_kafka(folder: Path) -> Iterator[Secured]:
    """Run the broker while the block runs; skips like the `kafka` fixture, which the test asks for, too."""
    program("java", "default-jre-headless")
    jars = filled(plain.recipe()) / "jars"
    port, admin = free_port(), free_port()
    authority = _certify(folder)
    settings = _write_settings(folder, port, admin)
    java = ["java", *plain.JVM, "-cp", f"{jars}/*"]
    users = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in USERS.items()]
    added = [part for user in users for part in ("--add-scram", user)]
    subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", plain.CLUSTER, "-c", str(settings), *added],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    command = [*java, "kafka.Kafka", str(settings)]
    with serve(command, address=f"{LOOPBACK}:{port}", folder=folder, ready=lambda: answers(port)) as server:
        yield Secured(server, f"{LOOPBACK}:{admin}", authority)


def _write_settings(folder: Path, port: int, admin: int) -> Path:
    template = plain._PROPERTIES.format(host=LOOPBACK, port=0, controller_port=0, advertised_port=0, data="")
    kept = [line for line in template.splitlines() if not line.startswith(_REPLACED)]
    own = _SETTINGS.format(host=LOOPBACK, port=port, admin=admin, controller=free_port(), data=folder / "data",
                           keystore=folder / "keystore.pem")  # fmt: skip
    path = folder / "server.properties"
    path.write_text("\n".join(kept) + own)
    return path


def _certify(folder: Path) -> Path:
    """Make a certificate for loopback that signs itself; returns the file that clients trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "raa tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                               serialization.NoEncryption())  # fmt: skip
    public = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "keystore.pem").write_bytes(secret + public)
    authority = folder / "authority.pem"
    authority.write_bytes(public)
    return authority
