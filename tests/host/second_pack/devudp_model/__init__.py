"""A careless neighbour's module of the same name: whoever imports it has been led astray."""

raise ImportError("the pack imported a neighbour's devudp_model instead of its own")
