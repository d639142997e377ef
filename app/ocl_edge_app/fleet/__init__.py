"""Vehicles that share what their heads learned: what is sent, what becomes of it, and who takes it."""
