"""Networks by kind, sized from the space of the data."""
