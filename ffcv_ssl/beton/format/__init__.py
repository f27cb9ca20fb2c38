"""The sections of a .beton file, which `BETON.md` specifies."""
