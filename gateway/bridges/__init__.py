"""Bridges to other protocols. A bridge is an internal connection, so permissions, limits and counters hold for it as
for any client.
"""
