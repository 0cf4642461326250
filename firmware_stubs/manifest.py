# What to freeze into a firmware of one's own, as in
# make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=…/firmware_stubs/manifest.py
# Frozen code stays in flash; of what an import takes on the heap most is not needed then.
include("$(PORT_DIR)/boards/manifest.py")  # noqa: F821
package("device_sdk", base_path="..", opt=2)  # noqa: F821
module("slots.py", base_path="../device_sdk", opt=2)  # noqa: F821
module("first_boot.py", base_path="appliance", opt=2)  # noqa: F821
module("appliance.py", base_path="appliance", opt=2)  # noqa: F821
module("portal.py", base_path="appliance", opt=2)  # noqa: F821
