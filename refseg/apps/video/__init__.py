"""What is made of a clip's answers: drawn videos, masks, cut-outs with transparency, JSON. The extra `video` (PyAV)."""
