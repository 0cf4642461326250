"""The flow log of a node: who wants records of requests, how they get them, and the files that keep them.

Between the planes: the data plane writes into the ring (`observe.flows`), everything here only reads from it.
"""
