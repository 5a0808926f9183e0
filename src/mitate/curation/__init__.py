"""Keep or drop, with a reason: who decided what about which image of a set, and what then stands."""
