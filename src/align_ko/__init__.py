"""align_ko: Korean language models that answer naturally under plain greedy decoding."""

__version__ = "0.1.0"
