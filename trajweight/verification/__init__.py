"""Whether an export's weights take effect in its trainer, told by a gradient."""

from trajweight.verification.verdict import Verdict
from trajweight.verification.verifying import verify_export

__all__ = ["Verdict", "verify_export"]
