"""What adaptation gains on labelled footage."""
