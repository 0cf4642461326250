"""The project's own benchmarks: `python -m bench`, see README.md."""
