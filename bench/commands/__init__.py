"""The commands, a module each: `add` states its options, `run` does its work; what several share is below them."""
