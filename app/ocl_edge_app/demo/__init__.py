"""The demo: a drawn drive through the frozen and the adapting network, and what to show of it."""
