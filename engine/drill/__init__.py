"""Restore drills: every source brought back from its backups in a throwaway place, and proven there.

    result = drill(site, DrillRequest())
    key = keep(site, result)                       # the signed record, below drills/ in the vault

Production servers are not spoken to. ``verdict`` says what a drill comes to, ``base`` how a source is drilled;
a new kind of source is one class more (see ``kinds``).
"""
