"""MQTT topics and RSocket routes: which stands for which, and whether messages could go round.

Pure: no clock, no I/O, no MQTT client. Below `documents`, because the validator proves with it what a bridge would do,
and beside nothing that runs: `bridges` does what the rules here say.
"""
