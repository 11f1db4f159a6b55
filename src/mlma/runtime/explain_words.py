"""The sentences of `mlma explain`: numbers and codes of a decision in the engineer's words."""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from mlma.core.decisions import Action, EffectStatus, Hold, OverrideKind, Reason
from mlma.core.explanation import Fact
from mlma.core.records import NAIVE, Decision, Effect, Override, Request, Version

ACTION_WORDS: dict[Action, str] = {
    Action.KEEP: "keep the model",
    Action.TRAIN: "train a first version",
    Action.RETRAIN: "retrain",
    Action.PROMOTE: "promote the candidate",
    Action.REJECT: "reject the candidate",
    Action.ROLL_BACK: "roll back to the former champion",
    Action.ESCALATE: "a person must look",
}

REASON_WORDS: dict[Reason, str] = {
    Reason.WITHIN_REFERENCE: "the loss is within its references",
    Reason.NOT_READY: "there are fewer reference batches than the test needs",
    Reason.NO_OUTCOMES: "too few outcomes arrived in the batch",
    Reason.BAD_DATA: "the batch lies in a period that is excluded as bad data",
    Reason.NO_VERSION: "the stream has no trained version yet",
    Reason.ALARM_ADAPTIVE: "the loss rose above the adaptive reference",
    Reason.ALARM_ANCHORED: "the loss rose above the anchored reference: a slow slide",
    Reason.ALARM_BOTH: "the loss rose above the adaptive and the anchored reference",
    Reason.ALARM_ACCUMULATED: "the loss of several batches together rose above the anchored reference",
    Reason.INCIDENT: "the loss rose together with others: one incident, not an alarm of this stream",
    Reason.SMALL_EFFECT: "the loss rose significantly, but by less than the effect floor",
    Reason.UNCERTIFIED: "the test's certificate failed, so its alarm does not count",
    Reason.CALENDAR: "the policy's calendar is due",
    Reason.ALWAYS: "the policy retrains after every batch",
    Reason.REQUESTED: "an engineer asked for it",
    Reason.MODEL_FAILED: "the champion could not forecast, seasonal naive stood in",
    Reason.FIRST_VERSION: "there was no champion to beat",
    Reason.DEBT: "what age has cost since the last training exceeds the price of one",
    Reason.IN_SHADOW: "it forecasts beside the champion, and serves once it does better",
    Reason.DID_BETTER: "its recent losses on the same targets are lower than the champion's",
    Reason.JOINED_POOL: "the new version takes part in the blend; its weight follows its losses",
    Reason.LATEST_SERVES: "the policy serves the latest version without a comparison",
    Reason.BEAT_CHAMPION: "it beat the champion on the held-out recent targets",
    Reason.NOT_BETTER: "it did not beat the champion on the held-out recent targets",
    Reason.TRAINING_FAILED: "no candidate came out of the training",
    Reason.TRIGGERED: "the trigger of a policy that only replays know was due",
    Reason.BACK_TO_TIME: "an engineer brought back what served at a time",
}

HOLD_WORDS: dict[Hold, str] = {
    Hold.NOTHING: "nothing",
    Hold.FROZEN: "an override freezes the stream",
    Hold.PINNED: "an override pins the serving version",
    Hold.TOO_LITTLE_DATA: "fewer clean observations in the train window than a training needs",
    Hold.NO_NEW_DATA: "nothing arrived in the batch, so there is nothing to learn",
    Hold.SUSPICIOUS_DATA: "the batch looks like a fault of the feed: values repeat or are not positive",
    Hold.COOLING_DOWN: "the last training is too recent",
    Hold.BACKING_OFF: "the last trainings did not help: the next must be worth more",
    Hold.IN_PROGRESS: "a training of the stream is under way, or waits for the budget",
    Hold.NO_FORMER_CHAMPION: "there is nothing to roll back to",
    Hold.NOTHING_TO_CHANGE: "what was asked for is so already",
    Hold.BUDGET: "it waited for the training budget until its deadline",
    Hold.SETTLED: "its reason went away while it waited for the training budget",
    Hold.FORECASTS_MISSING: "forecasts that are made elsewhere did not arrive, so the batch tells nothing about them",
}

NONE = "none"


def number(value: float) -> str:
    """Loss or p-value in four digits, ``-`` when there is none.

    Examples
    --------
    >>> number(0.000123456), number(1234.5678), number(float("nan"))
    ('0.0001235', '1,235', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if 1000.0 <= abs(value) < 1e15 else f"{value:.4g}"


def percent(value: float) -> str:
    """Relative change with its sign, ``-`` when there is none.

    Examples
    --------
    >>> percent(0.344), percent(float("nan"))
    ('+34.4 %', '-')
    """
    return "-" if math.isnan(value) else f"{value:+,.1%}".replace("%", " %")


def minute(at: datetime | None) -> str:
    """Time to the minute, UTC."""
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}"


def ratio(decision: Decision) -> float:
    """Served loss relative to the loss of seasonal naive, NaN when either is missing."""
    if not decision.naive_loss > 0:
        return float("nan")
    return decision.mean_loss / decision.naive_loss


def facts(
    *,
    decision: Decision | None,
    candidate: Decision | None,
    served: Version | None,
    champion: Version | None,
    overrides: Iterable[Override],
    effects: Iterable[Effect],
    requests: Iterable[Request],
    monitored: Sequence[Fact] = (),
    released: str = "",
    lapses_at: Callable[[int], datetime | None] = lambda _: None,
) -> tuple[Fact, ...]:
    """Lines of an explanation, the decision first; ``monitored`` follow what was tested.

    ``released`` says when what held the decision is expected to end, ``lapses_at`` when a training that was ordered
    after a batch gives up waiting.
    """
    if decision is None:
        lines = [Fact(label="decision", text="none yet: no batch of this stream was judged")]
    else:
        lines = [
            Fact(label="decision", text=decided(decision)),
            Fact(label="held by", text=holding(decision, overrides, released)),
            Fact(label="tested", text=verdict(decision)),
            *monitored,
            Fact(label="mean loss", text=losses(decision)),
            Fact(label="naive", text=against_naive(decision)),
            Fact(label="served by", text=version_words(served, decision.version_id)),
        ]
    lines.append(Fact(label="serves now", text=version_words(champion, champion.id if champion else NAIVE)))
    lines.append(Fact(label="candidate", text=compared(candidate) if candidate else "none so far"))
    lines.append(Fact(label="overrides", text="; ".join(map(override_words, overrides)) or NONE))
    pending = [effect_words(effect, lapses_at(effect.batch)) for effect in effects]
    waiting = [*pending, *map(request_words, requests)]
    return (*lines, Fact(label="pending", text="; ".join(waiting) or NONE))


def decided(decision: Decision) -> str:
    """What was decided and why; what was proposed when that was something else."""
    why = f"{REASON_WORDS[decision.reason]} ({decision.reason})"
    if decision.held_by is Hold.NOTHING:
        return f"{ACTION_WORDS[decision.action]}: {why}"
    return f"{ACTION_WORDS[decision.action]}, though proposed was to {ACTION_WORDS[decision.proposed]}: {why}"


def holding(decision: Decision, overrides: Iterable[Override], released: str = "") -> str:
    """What kept the proposal back, until when, and the override's id while it still holds."""
    if decision.held_by is Hold.NOTHING:
        return "nothing was held back"
    text = f"{HOLD_WORDS[decision.held_by]} ({decision.held_by})" + (f"; {released}" if released else "")
    kind = {Hold.FROZEN: OverrideKind.FREEZE, Hold.PINNED: OverrideKind.PIN}.get(decision.held_by)
    ids = [str(override.id) for override in overrides if override.kind is kind]
    return f"{text}; to release it: mlma lift {' '.join(ids)}" if ids else text


def verdict(decision: Decision) -> str:
    """How many targets, against how many batches, and what came out; p and effect always together."""
    if math.isnan(decision.p_value):
        return f"no test: {decision.n} scored targets, {decision.n_reference} reference batches"
    return (
        f"p = {number(decision.p_value)} (one-sided), effect {percent(decision.effect)}, "
        f"{decision.n} scored targets against {decision.n_reference} reference batches"
    )


def losses(decision: Decision) -> str:
    """Recent mean loss and both references."""
    return (
        f"{number(decision.mean_loss)} recent, {number(decision.adaptive_mean)} adaptive reference, "
        f"{number(decision.anchored_mean)} anchored reference"
    )


def against_naive(decision: Decision) -> str:
    """Served loss relative to seasonal naive on the same targets."""
    share = ratio(decision)
    if math.isnan(share):
        return "no comparison: seasonal naive has no loss in this batch"
    word = "better" if share < 1 else "no better"
    return f"{number(decision.naive_loss)} on the same targets: served / naive = {share:.3f}, {word} than naive"


def version_words(version: Version | None, version_id: str) -> str:
    """Version with its training, or seasonal naive."""
    if version is None:
        return "seasonal naive (no trained version)" if version_id == NAIVE else version_id
    return (
        f"{version.id} ({version.family}, trained {minute(version.trained_at)} after batch {version.batch} "
        f"on {version.n_rows:,} rows)"
    )


def compared(decision: Decision) -> str:
    """What became of a candidate, with the proof."""
    held = "" if decision.held_by is Hold.NOTHING else f", held: {HOLD_WORDS[decision.held_by]}"
    verb = {Action.PROMOTE: "promoted", Action.REJECT: "rejected"}.get(decision.action, "not promoted")
    proof = f"; {decision.note}" if decision.note else ""
    return (
        f"{decision.version_id} {verb} {minute(decision.decided_at)} after batch {decision.batch}{held}: "
        f"{REASON_WORDS[decision.reason]}{proof}"
    )


def override_words(override: Override) -> str:
    """A standing order with its author, comment and end."""
    end = "for ever" if override.ends_at is None else f"until {minute(override.ends_at)}"
    start = f"from {minute(override.starts_at)} " if override.kind is OverrideKind.EXCLUDE else ""
    return f"{override.id} {override.kind} {override.selection} {start}{end} by {override.author}: {override.comment}"


def effect_words(effect: Effect, lapses_at: datetime | None = None) -> str:
    """Work under way, or that waits for a worker or for the budget, up to an event time."""
    state, start = str(effect.status), ""
    if effect.status is EffectStatus.PENDING and not effect.attempts:
        state = "waits"
    if effect.status is EffectStatus.WAITING:
        state = "waits for the budget"
        start = start_words(effect.starts_at, lapses_at)
    return (
        f"{effect.kind} after batch {effect.batch} {state} since {minute(effect.ordered_at)} ({effect.reason}){start}"
    )


def start_words(starts_at: datetime | None, lapses_at: datetime | None) -> str:
    """When a training that waits is expected to start, or gives up before; event times, None where unknown.

    Examples
    --------
    >>> from datetime import UTC
    >>> third, fifth = datetime(2001, 3, 3, tzinfo=UTC), datetime(2001, 3, 5, tzinfo=UTC)
    >>> start_words(third, fifth)
    ', expected to start 2001-03-03 00:00 of event time'
    >>> start_words(fifth, third)
    ', gives up 2001-03-03 00:00 of event time, before its turn'
    """
    if starts_at is None:
        return ""
    if lapses_at is not None and lapses_at <= starts_at:  # at the same time it gives up first
        return f", gives up {minute(lapses_at)} of event time, before its turn"
    return f", expected to start {minute(starts_at)} of event time"


def request_words(request: Request) -> str:
    """An order that the next tick obeys."""
    return f"request {request.id} {request.kind} by {request.author}: {request.comment}"
