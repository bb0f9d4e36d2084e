"""Tools that ship: their definitions, as data."""
