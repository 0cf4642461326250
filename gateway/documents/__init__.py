"""What an operator declares beyond settings: documents of a few kinds, in YAML or JSON.

One validator (`validation.examine`) for the command line, the admin API and the node; `kinds` says which kinds there
are. Must not know: where documents are kept, and who acts by them.
"""
