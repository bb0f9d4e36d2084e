"""Sandbox: commands in a place where they see, write and reach only what was granted, and of which nothing is left."""
