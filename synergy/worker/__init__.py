"""What is needed to write a worker."""

from synergy.worker.work import GiveUp, Result, Retry, Work, noop, processed

__all__ = ["GiveUp", "Result", "Retry", "Work", "noop", "processed"]
