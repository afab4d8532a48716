"""What is kept, for how long and why. Pure: backups, policy and a moment in, a decision with its reason for each out.

``policy`` reads the rules, ``judge`` applies them, ``logs`` knows which log needs which full or base, ``brakes``
holds everything back when a clock or the amount looks wrong. Nothing here asks a store; ``engine.prune`` does.
"""
