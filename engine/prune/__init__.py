"""Removing what the policy no longer keeps: marked as expired first, gone a day later, never more than is certain.

``look`` plans and changes nothing; ``prune`` plans and does it.
"""

from engine.prune.plan import GRACE, PlacePlan, Planned, look
from engine.prune.run import prune

__all__ = ["GRACE", "PlacePlan", "Planned", "look", "prune"]
