"""Ports: what the product needs of the world, as protocols without code."""
