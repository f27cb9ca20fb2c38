"""JPEG headers, decoding and encoding, and conversion of other image formats to RGB."""
