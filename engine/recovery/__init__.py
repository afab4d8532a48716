"""Recovery to a point in time: which moments can be had, and what each needs. Pure; asks no store and no server."""

from engine.recovery.plan import RecoveryPlan, Target, make_plan, merged, parse_target
from engine.recovery.statement import Statement
from engine.recovery.window import Anchor, Hole, Window, holes, windows

__all__ = [
    "Anchor",
    "Hole",
    "RecoveryPlan",
    "Statement",
    "Target",
    "Window",
    "holes",
    "make_plan",
    "merged",
    "parse_target",
    "windows",
]
