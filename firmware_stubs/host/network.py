"""`network` for running firmware on a PC: a Wi-Fi that connects at once."""

STA_IF = 0
AP_IF = 1


class WLAN:
    up = False

    def __init__(self, interface=STA_IF):
        self.interface = interface

    def active(self, on=None):
        return True

    def connect(self, ssid=None, key=None):
        WLAN.up = True

    def disconnect(self):
        WLAN.up = False

    def isconnected(self):
        return WLAN.up

    def ifconfig(self):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
