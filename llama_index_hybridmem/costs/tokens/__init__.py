"""Tokens of a call: who counts them, and whom they are paid to."""
