"""Several processes of one node on one host: how they are started, what they tell each other, how they are linked."""
