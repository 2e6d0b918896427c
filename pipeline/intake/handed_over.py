"""Whether a parcel that another site gives away is for this site, and from one that it takes cases from."""

from __future__ import annotations

from pathlib import Path

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.intake.parcel_file import ParcelManifest, damaged
from batchone.pipeline.job.signature import HANDOVER, KEYS, embedded_signer, fingerprint, read_allowed_signers, verify

PARTNERS = "partners"  # file of a site, as allowed_signers: the release keys of the sites that it takes cases from
RELEASE_LINE = "release.pub"


def refuse_handed_over(site: Path, manifest: ParcelManifest) -> None:
    """Let a case of another site in only where it is addressed to this one, whole, and signed by a partner.

    Raises
    ------
    InputError
        It is not.
    """
    given = manifest.handed_over
    if given is None:
        return
    line = site / KEYS / RELEASE_LINE
    own = fingerprint(line.read_text(encoding="utf-8")) if line.is_file() else "a site without a release key"
    if given.to != own:
        raise InputError(
            f"the case is handed over to {given.to}, this is {own}", hint="bring the parcel to the site that it is for"
        )
    try:
        if fingerprint(embedded_signer(given.signature).raw_key) != given.by:
            raise damaged("names another giving site than the one that signed it")
        partners = read_allowed_signers(site / PARTNERS) if (site / PARTNERS).exists() else ()
        verify(given.signature, manifest.handed(), namespace=HANDOVER, allowed=partners)
    except MachineError as error:
        raise InputError(
            f"the case comes from the site {given.by}: {error}",
            hint=f"put the public line of its release key into {PARTNERS} of this site, if it takes cases from there",
        ) from error
