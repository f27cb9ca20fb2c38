"""Decodes and encodes JPEG: headers, the decoder ladder, the one encoder and resize."""
