"""The spool at work in a node: what waits for whom (`depot`), and how it gets there (`outlet`).

Knows the data plane (`forwarding`), the store (`spool`) and the documents that say what may wait; only `node` knows it.
"""
