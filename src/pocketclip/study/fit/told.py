"""The lines that a fit opens with: what is here, what is done and why, what it takes."""

from pocketclip.hardware import describe_hardware
from pocketclip.study.fit.choice import Choice
from pocketclip.study.fit.limits import told_time
from pocketclip.study.fit.look import Data, Speeds
from pocketclip.study.fit.plans import held_out


def three_lines(choice: Choice, data: Data, speeds: Speeds, image_core_ms: float, budget_seconds: float) -> list[str]:
    """Data and machine, the choice with its reason, and the price."""
    plan = choice.plan
    pictures = 1 / (speeds.decoding + speeds.work * image_core_ms)
    here = (
        f"Here: {data.num_pictures:,} pictures with {data.captions_per_picture:.1f} captions each; "
        f"{describe_hardware()}: {pictures:,.0f} pictures and {1 / speeds.caption:,.0f} captions a second."
    )
    how = "heads over the frozen towers"
    if plan.candidate.tuned:
        how = f"heads first, then both towers for {plan.tuned_epochs:.0f} epochs"
    of_all = f", on {plan.num_pictures:,} of the pictures" if plan.num_pictures < data.num_pictures else ""
    kept = [limit.option for limit in choice.limits if limit.option.startswith("--")]
    within = " and ".join([told_time(budget_seconds), *kept])
    chosen = f"Choice: {plan.candidate}, {how}{of_all}: the best on record within {within}; {choice.better}."
    parts = ", ".join(f"{what} {told_time(seconds)}" for what, seconds in plan.seconds.items())
    amounts = "".join(
        f"; {limit.option.lstrip('-')} {limit.told(limit.taken(plan.candidate))} of {limit.told(limit.most)}"
        for limit in choice.limits
        if limit.option.startswith("--")
    )
    learned = plan.num_pictures - held_out(plan.num_pictures)
    takes = (
        f"Takes: about {told_time(plan.total)} ({parts}); {learned:,} pictures to learn from and "
        f"{held_out(plan.num_pictures):,} to be measured on{amounts}."
    )
    return [here, chosen, takes]
