"""The closed vocabulary of decisions: what is done, why, and what held it back."""

from enum import StrEnum


class Action(StrEnum):
    """What a decision orders for one stream."""

    KEEP = "keep"  # nothing changes
    TRAIN = "train"  # a first version is trained
    RETRAIN = "retrain"  # a challenger is trained
    PROMOTE = "promote"  # a version becomes champion
    REJECT = "reject"  # a candidate does not become champion
    ROLL_BACK = "roll_back"  # the former champion serves again
    ESCALATE = "escalate"  # a person must look


class Reason(StrEnum):
    """Why a decision was proposed. Each has a row in the decision table and a line in the manual."""

    WITHIN_REFERENCE = "within_reference"  # the test did not reject
    NOT_READY = "not_ready"  # fewer reference batches than the test needs
    NO_OUTCOMES = "no_outcomes"  # too few outcomes arrived in the batch
    BAD_DATA = "bad_data"  # the batch lies in an excluded period
    NO_VERSION = "no_version"  # the stream has no trained version yet
    ALARM_ADAPTIVE = "alarm_adaptive"  # worse than the adaptive reference
    ALARM_ANCHORED = "alarm_anchored"  # worse than the anchored reference
    ALARM_BOTH = "alarm_both"  # worse than both references
    INCIDENT = "incident"  # worse, but together with others: the incident says with whom
    SMALL_EFFECT = "small_effect"  # significant, but below the effect floor
    UNCERTIFIED = "uncertified"  # the test's certificate failed: no alarm counts, and policy test follows a calendar
    DEBT = "debt"  # what age has cost since the last training exceeds the price of one
    CALENDAR = "calendar"  # the policy's calendar is due
    ALWAYS = "always"  # the policy retrains at every batch
    REQUESTED = "requested"  # an engineer asked for it
    MODEL_FAILED = "model_failed"  # the champion could not forecast
    FIRST_VERSION = "first_version"  # there was no champion to beat
    LATEST_SERVES = "latest_serves"  # the policy promotes without a comparison (baselines only)
    IN_SHADOW = "in_shadow"  # it forecasts beside the champion, and serves once it does better
    DID_BETTER = "did_better"  # its recent losses on the same targets are lower than the champion's
    JOINED_POOL = "joined_pool"  # its weight in the blend follows its losses
    BEAT_CHAMPION = "beat_champion"  # better on the held-out recent targets
    NOT_BETTER = "not_better"  # not better by the effect floor on the held-out recent targets
    TRAINING_FAILED = "training_failed"  # no candidate came out of the training
    TRIGGERED = "triggered"  # the trigger of a policy that only replays know was due
    BACK_TO_TIME = "back_to_time"  # an engineer brought back what served at a time
    ALARM_ACCUMULATED = "alarm_accumulated"  # several batches together are worse than the anchored reference


class Hold(StrEnum):
    """What kept a proposed action from being carried out."""

    NOTHING = ""
    FROZEN = "frozen"  # an override freezes the stream
    PINNED = "pinned"  # an override pins the serving version
    TOO_LITTLE_DATA = "too_little_data"  # fewer clean observations than a training needs
    NO_NEW_DATA = "no_new_data"  # nothing arrived in the batch, so there is nothing to learn
    COOLING_DOWN = "cooling_down"  # the last retraining is too recent
    BACKING_OFF = "backing_off"  # the last trainings did not help, and this one is worth its price but not twice that
    IN_PROGRESS = "in_progress"  # a training of the stream is under way, or waits for the budget
    NO_FORMER_CHAMPION = "no_former_champion"  # there is nothing to roll back to
    NOTHING_TO_CHANGE = "nothing_to_change"  # what was asked for is so already
    SUSPICIOUS_DATA = "suspicious_data"  # the batch looks like a fault of the feed, not like something to learn
    BUDGET = "budget"  # it waited for the training budget until its deadline
    SETTLED = "settled"  # its reason went away while it waited for the training budget
    FORECASTS_MISSING = "forecasts_missing"  # forecasts made elsewhere did not arrive: the batch tells nothing of them


class Phase(StrEnum):
    """The point of the loop at which a decision was made; one decision per stream, batch and phase."""

    BATCH = "batch"  # a batch was closed and tested
    PROMOTION = "promotion"  # a training finished
    COMPARISON = "comparison"  # the versions of a pool were compared
    REQUEST = "request"  # an engineer's request was consumed
    RELEASE = "release"  # a held proposal was released


class Role(StrEnum):
    """What a version is to its stream."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
    FORMER = "former"  # was champion; may be rolled back to
    REJECTED = "rejected"  # lost its comparison
    TAKEN_BACK = "taken_back"  # an engineer went back to a time before it came


class EffectKind(StrEnum):
    """The work that a decision orders."""

    TRAIN = "train"


class EffectStatus(StrEnum):
    """How far an effect has come."""

    WAITING = "waiting"  # for the budget; it holds nothing back
    PENDING = "pending"  # it has started, and event time waits for it
    DONE = "done"
    FAILED = "failed"
    LAPSED = "lapsed"  # it waited until its reason was gone or its deadline had passed


class OverrideKind(StrEnum):
    """Standing orders of an engineer."""

    FREEZE = "freeze"  # no model change
    PIN = "pin"  # the serving version stays; training goes on
    EXCLUDE = "exclude"  # a period of event time is bad data


class RequestKind(StrEnum):
    """One-shot orders of an engineer."""

    RETRAIN = "retrain"
    ROLLBACK = "rollback"


class CertificateStatus(StrEnum):
    """What the sham streams say about the loss test."""

    PENDING = "pending"  # too few sham tests to say
    CERTIFIED = "certified"  # the measured false-alarm rate agrees with the promised one
    FAILED = "failed"  # it is higher: the test is not armed


class RejectReason(StrEnum):
    """Why an incoming row is not admitted."""

    UNREADABLE = "unreadable"  # the file as a whole, or a line that cannot be split into columns
    BAD_TIME = "bad_time"  # ts is missing or not a time
    OFF_GRID = "off_grid"  # ts is not a multiple of the frequency
    FUTURE = "future"  # ts is ahead of the clock
    BAD_STREAM = "bad_stream"  # the stream's name is missing
    NOT_A_NUMBER = "not_a_number"  # text in y
    NOT_FINITE = "not_finite"  # infinite y
    ABSURD = "absurd"  # y is beyond anything that the stream has shown
    DUPLICATE = "duplicate"  # the same stream and ts, within a file or already known
    TOO_OLD = "too_old"  # before the oldest slot that is kept
    UNKNOWN_STREAM = "unknown_stream"  # a forecast of a stream without any observation
    BAD_VERSION = "bad_version"  # a forecast whose version is not named as versions may be
    LOOK_AHEAD = "look_ahead"  # a forecast whose outcome was known before it came
    LATE = "late"  # a forecast that came after the forecasts of its origin were settled
