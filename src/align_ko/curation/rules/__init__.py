"""What a text must not contain: one module per rule, each a pure function of text with its table of patterns."""
