"""A benchmark of scorers: environments with programmatic reward, planted noise, roll-outs."""
