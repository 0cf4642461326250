"""How nodes find and reach each other: uplinks, downlinks and peer links, and what is told over them."""
