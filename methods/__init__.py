"""The methods, in leaderboard order. Adding one is a file in this folder and its name here."""

from methods import (  # noqa: F401, I001  (the order is the table's)
    zero_shot,
    linear_probe,
    coop,
    clip_adapter,
    maple,
    prompt_src,
    clip_lora,
    tpt,
    rada,
    rada_prompt,
    lp_all,
    ft,
    l2_sp,
    lp_ft,
    flyp,
    wise_ft,
    rada_fft,
    rada_ft,
)
