"""What makes trainers heed weights: each file is copied beside the data that it is to act on.

So that an export trains where trajweight is not installed, nothing here imports it: torch, the
standard library and the trainer itself are all there is.
"""
