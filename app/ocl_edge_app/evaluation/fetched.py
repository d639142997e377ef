"""URLs."""


def is_url(place: str) -> bool:
    return "://" in place
