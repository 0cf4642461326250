"""`network` for running firmware on a PC: a Wi-Fi that connects, unless the test says otherwise in the file `wifi`.

What the device joins is in `station` (name and key), the access point that it opens in `access-point`.
"""

import world

STA_IF = 0
AP_IF = 1
STAT_IDLE = 0
STAT_GOT_IP = 3
AUTH_WPA2_PSK = 3


class WLAN:
    IF_STA = STA_IF
    IF_AP = AP_IF
    SEC_WPA2 = AUTH_WPA2_PSK
    joined = False
    on = [False, False]

    def __init__(self, interface=STA_IF):
        self.interface = interface

    def active(self, on=None):
        if on is not None:
            WLAN.on[self.interface] = bool(on)
            if not on and self.interface == STA_IF:
                WLAN.joined = False
        return WLAN.on[self.interface]

    def config(self, *names, **values):
        if self.interface == AP_IF and values:
            if len(values.get("key", "")) < 8:
                raise ValueError("WPA2 wants a key of 8 characters")
            world.do("access-point", "%s %s" % (values.get("ssid"), values.get("key")))

    def connect(self, ssid=None, key=None, **rest):
        WLAN.joined = world.said("wifi") in (None, "", "up", "%s %s" % (ssid, key))
        world.do("station", "%s %s" % (ssid, key))

    def disconnect(self):
        WLAN.joined = False

    def isconnected(self):
        if self.interface == AP_IF:
            return False
        if world.said("wifi") == "down":
            WLAN.joined = False
        return WLAN.joined

    def status(self, what=None):
        if what == "rssi":
            return int(world.said("rssi") or -55)
        return STAT_GOT_IP if self.isconnected() else STAT_IDLE

    def ifconfig(self, *given):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
