"""What shows a run while it goes on. Nothing here ever delays a mask."""
