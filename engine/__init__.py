"""How bytes are captured, stored, checked and brought back. Imports no Prefect.

Layers inside, each leaning only on those above it:

    errors  names  config  manifest      what things are called and how they fail
    processes  codec  stores             running tools, shaping bytes, keeping bytes
    layout  catalog  vault               where backups stand, which exist, how one is born
    mysql  postgres                      one source each: capture and restore
    backup  restore                      the steps that flows and the command line share
"""
