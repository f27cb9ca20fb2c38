"""The bytes of a .beton file: header, descriptors, records, pages, allocation table, extension block."""
