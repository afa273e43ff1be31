"""A server that segments what it is sent, for machines without a GPU of their own (extra ``[serve]``).

Uploads are unpacked with care, wait in a bounded queue, and are gone with their results once those were fetched.
"""

from meduniseg_core.serving.jobs import Job, JobQueue, JobState
from meduniseg_core.serving.limits import Limits
from meduniseg_core.serving.orders import JobOrder
from meduniseg_core.serving.worker import NetworkWorker

__all__ = ["Job", "JobOrder", "JobQueue", "JobState", "Limits", "NetworkWorker"]
