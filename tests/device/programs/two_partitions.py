"""What an ESP32 does at a start: the bootloader chooses a partition, and what is in it runs.

An image of the tests is the magic byte, and its version and kind in a line of their own; the rest is `whole_image`.
"""

import esp32
import whole_image

label = esp32.boot()
block = bytearray(esp32.SIZE)
esp32.Partition(label).readblocks(0, block)
version, kind = bytes(block[1:64]).split(b"\n")[0].decode().split()
whole_image.run(version, kind)
