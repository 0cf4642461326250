"""Firmware for devices, where the planes meet: what they ask (`downloads`), who answers (`desk`), who is told to ask
(`calling`)."""
