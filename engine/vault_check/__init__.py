"""Everything stored is read back in turn: named where it is damaged, no longer counted on, healed where a good copy is.

What is looked at each time, from listings: data and manifests belong together, replicas lack nothing, logs have no
holes, nothing is left unfinished. What is read back is a share, the longest unproven first (``share``).
"""

from engine.vault_check.findings import Finding, Outcome, PlaceReport, outcome_of
from engine.vault_check.run import ALL, share_of, verify_place, verify_vault
from engine.vault_check.share import Share
from engine.vault_check.work import Request

__all__ = [
    "ALL",
    "Finding",
    "Outcome",
    "PlaceReport",
    "Request",
    "Share",
    "outcome_of",
    "share_of",
    "verify_place",
    "verify_vault",
]
