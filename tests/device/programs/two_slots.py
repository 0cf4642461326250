"""main.py of a board with two slots."""

from slots import boot

boot()
