"""The methods, in leaderboard order. Adding one is a file in this folder and its name here."""

from methods import zero_shot, linear_probe, coop, clip_adapter, tpt, rada, ft  # noqa: F401, I001  (the order is the table's)
