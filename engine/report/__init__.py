"""The weekly report of a site: what is protected and proven, what happened, what it costs; for a person on a phone.

``gather`` reads the facts from the vault's places alone, so it works with Prefect and every database server down.
``page``, ``text`` and ``plots`` lay them out and ask nobody.
"""
