"""Restore drills: every source brought back from its backups in a throwaway place, and proven there.

    result = drill(site, DrillRequest())
    key = keep(site, result)                       # the signed record, below drills/ in the vault

Production is not touched: its databases are read by no drill. A MySQL server is asked one thing that no backup says,
``lower_case_table_names``, where it lives. ``verdict`` says what a drill comes to, ``base`` how a source is drilled;
a new kind of source is one class more (see ``kinds``).
"""
