"""A whole machine brought back on a clean host: planned first, approved once, resumable.

``points`` finds the recovery point, ``plan`` says what will be done, ``run`` does it step by step, ``state`` remembers
what is done, ``kinds`` is where each kind of source joins in, ``report`` tells a person.
"""
