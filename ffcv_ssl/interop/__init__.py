"""Use of this package inside other libraries.

Files need no conversion: FFCV 1.0.x reads files of this package, and this package reads FFCV's
(`make interop` compares them value by value).
"""
