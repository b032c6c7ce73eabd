"""Servers for tests: real HTTP on a loopback port."""
