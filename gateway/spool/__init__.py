"""Store and forward: what was accepted while its destination is out of reach. See docs/spool.md.

Stands on `storage` alone: it knows no connection, no frame and no link. Whoever delivers brings a function that sends.
"""
