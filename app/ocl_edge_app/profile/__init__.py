"""Where each millisecond of a frame goes, with adaptation on and off."""
