"""Providers: adapters to models; pure wire forms and the transport that carries them."""
