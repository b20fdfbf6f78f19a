"""Frozen settings and a pure inverse pair, encode and decode, for each kind of data."""
