"""The settings: declared in ``declarations``, read by ``loading``. A ``Config`` is frozen; a change is a new one.

A leaf: knows nothing of what the settings are for. ``docs/settings.md`` is generated from the declarations by
``tools/settings_doc.py``.
"""

from gateway.config.advertised import advertised_host, advertised_url, certificate_names, is_wildcard
from gateway.config.declarations import Config, Setting, settings
from gateway.config.federation import Federation
from gateway.config.limits import KindLimits, Limits
from gateway.config.live import Change, Effective, LiveSettings, Locked, NotReloadable
from gateway.config.loading import Sources, load
from gateway.config.values import address, is_loopback

__all__ = [
    "Change",
    "Config",
    "Effective",
    "Federation",
    "KindLimits",
    "Limits",
    "LiveSettings",
    "Locked",
    "NotReloadable",
    "Setting",
    "Sources",
    "address",
    "advertised_host",
    "advertised_url",
    "certificate_names",
    "is_loopback",
    "is_wildcard",
    "load",
    "settings",
]
