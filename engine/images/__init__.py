"""The containers of a compose project and their images.

``look`` reads them from an engine, ``record`` is what is kept of them with every recovery point, ``saved`` proves a
stored image, ``source`` makes the backups, ``load`` brings images back and ``recreate`` the containers.
"""
