"""``provenance.dsse.json``: how a job came to be, as an in-toto statement of SLSA provenance in a DSSE envelope, Ed25519.

Formats: in-toto attestation framework, Statement v1; SLSA provenance v1; DSSE 1.0 (Pre-Authentication Encoding). The statement
follows from ``job.json`` and the list of digests alone, so that whoever verifies writes it anew and compares bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from batchone.pipeline.job.manifest import JobManifest, canonical_json
from batchone.pipeline.job.sbom import MEDIA_TYPE, SBOM
from batchone.pipeline.job.signature import RELEASE, Signer, SiteKey
from batchone.pipeline.job.sums import UNLISTED, sha256

PROVENANCE: Final = "provenance.dsse.json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_BUILD: Final = "urn:batchone:job:2"
_SIGNATURE_BYTES: Final = 64  # RFC 8032
_BUILDER: Final = "urn:batchone"


def statement(manifest: JobManifest, digests: Mapping[str, str]) -> bytes:
    """The statement: its subjects are all other files of the job, its predicate says from what and by whose word they came.

    Parameters
    ----------
    digests
        SHA-256 by file name; the provenance itself and the lists are left out.
    """
    tree: dict[str, Any] = manifest.model_dump(mode="json", by_alias=True)
    approval = tree["approval"]
    scan: dict[str, Any] = {"name": "scan", "digest": {"sha256": manifest.scan_sources_digest}}
    if manifest.dicom is not None:
        scan["annotations"] = {"images": manifest.dicom.images, "instance_uids_sha256": manifest.dicom.images_digest}
    builder: dict[str, Any] = {"id": _BUILDER, "version": dict(manifest.versions)}
    if SBOM in digests:
        software = {"name": SBOM, "mediaType": MEDIA_TYPE, "digest": {"sha256": digests[SBOM]}}
        builder["builderDependencies"] = [software]
    return canonical_json(
        {
            "_type": _STATEMENT,
            "subject": [
                {"name": name, "digest": {"sha256": digests[name]}} for name in sorted(set(digests) - UNLISTED - {PROVENANCE})
            ],
            "predicateType": _PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": _BUILD,
                    "externalParameters": {
                        key: tree[key] for key in ("case", "device", "side", "process", "machine", "due", "parameters")
                    },
                    "internalParameters": {
                        "profiles_sha256": manifest.build.profiles_sha256,
                        "plan_proposed": manifest.plan_proposed,
                    },
                    "resolvedDependencies": [
                        scan,
                        {
                            "name": "approved device",
                            "digest": {"sha256": approval["digest"]},
                            "annotations": {
                                "approved_by": approval["name"],
                                "time": approval["time"],
                                "meaning": approval["meaning"],
                                "demonstration": approval["demonstration"],
                                "public_key": approval["public_key"],
                            },
                        },
                    ],
                },
                "runDetails": {
                    "builder": builder,
                    "metadata": {"invocationId": manifest.job, "finishedOn": approval["time"]},
                },
            },
        }
    )


def envelope(payload: bytes, key: SiteKey) -> bytes:
    """The statement in its signed envelope."""
    return _envelope(payload, key.signer.fingerprint, key.private.sign(encoded(payload)))


def encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def provenance_faults(data: bytes, payload: bytes, allowed: Sequence[Signer]) -> tuple[str, ...]:
    """What is wrong with a provenance file; nothing when it holds exactly ``payload``, signed by one who may release.

    Only the one canonical spelling is taken: the envelope is written anew with each allowed key and compared by its bytes.
    """
    head, _, rest = data.partition(b'"sig": "')
    text, quote, _ = rest.partition(b'"')
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if not head or not quote or len(raw) != _SIGNATURE_BYTES:
        return ("it is no DSSE envelope with one Ed25519 signature",)
    signers = [one for one in allowed if not one.namespaces or RELEASE in one.namespaces]
    for signer in signers:
        if data == _envelope(payload, signer.fingerprint, raw):
            try:
                Ed25519PublicKey.from_public_bytes(signer.raw_key).verify(raw, encoded(payload))
            except InvalidSignature:
                return ("its signature does not hold",)
            return ()
    if base64.b64encode(payload) not in data:
        return (f"it does not say what job.json and SHA256SUMS say (SHA-256 of its statement must be {sha256(payload)[:12]}...)",)
    return ("it is signed by a key that may not release, or spelt in another way",)


def _envelope(payload: bytes, keyid: str, raw: bytes) -> bytes:
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": keyid, "sig": base64.b64encode(raw).decode("ascii")}],
        }
    )
