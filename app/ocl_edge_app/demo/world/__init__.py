"""The demo's world: a drawn street, its weather, and a small network that was trained on its days."""
