"""The compiled hot path: optional extension modules over the very files that run uncompiled.

Each module below is one source: its `.py` is compiled as it stands, with the C types that its `.pxd` declares. Four
have a compiled twin (`.pyx`) instead, because their work is on blocks of memory. Without Cython or a C compiler, or
with GATEWAY_PURE=1, the package is pure Python and behaves the same.
"""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = [
    "forwarding/admitting",
    "forwarding/call",
    "forwarding/choosing",
    "forwarding/connecting",
    "forwarding/connection",
    "forwarding/credit",
    "forwarding/deadlines",
    "forwarding/decision",
    "forwarding/ending",
    "forwarding/endpoint",
    "forwarding/flow",
    "forwarding/flow_log",
    "forwarding/governed",
    "forwarding/lifecycle",
    "forwarding/opening",
    "forwarding/outbox",
    "forwarding/plane",
    "forwarding/sampling",
    "forwarding/strays",
    "forwarding/watched",
    "load/calls",
    "load/endpoint",
    "load/histogram",
    "load/responder",
    "load/tally",
    "load/templates",
    "observe/flows",
    "observe/metrics",
    "policy/breaker",
    "policy/outliers",
    "policy/rates",
    "policy/retry_budget",
    "policy/shedding",
    "policy/split",
    "routing/balancer",
    "routing/group",
    "routing/route",
    "routing/table",
    "session/stream_ids",
    "transport/carrier",
    "transport/tcp",
    "transport/websocket",
    "wire/prefix",
    "wire/sink",
    "wire/websocket",
]
TWINS = ["forwarding/stream", "forwarding/stream_table", "wire/framing", "wire/octets"]
DIRECTIVES = {"language_level": 3, "annotation_typing": False, "boundscheck": False, "initializedcheck": False}


class OptionalBuild(build_ext):
    """A compiler that is missing or fails costs speed, not the installation."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        try:
            super().run()
        except Exception as error:
            self._left_out(error)

    def build_extension(self, extension):
        try:
            super().build_extension(extension)
        except Exception as error:
            self._left_out(error)

    def _left_out(self, error):
        self.warn(f"the hot path stays interpreted: {error}")


def extensions():
    if os.environ.get("GATEWAY_PURE") == "1":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    sources = [f"gateway/{module}.py" for module in MODULES] + [f"gateway/{twin}.pyx" for twin in TWINS]
    modules = [
        Extension(os.path.splitext(source)[0].replace("/", "."), [source], extra_compile_args=["-O2", "-g0"])
        for source in sources
    ]
    try:
        return cythonize(
            modules, compiler_directives=DIRECTIVES, build_dir="build/cython", nthreads=os.cpu_count() or 1
        )
    except Exception as error:
        # As for a C compiler: a source that does not translate costs speed, not the installation.
        print(f"the hot path stays interpreted: {error}")
        return []


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
