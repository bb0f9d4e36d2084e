"""Kernel: every rule of the product as functions over values; no clock, chance, disk or network."""
