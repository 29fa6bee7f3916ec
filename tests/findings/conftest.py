from tests.findings.analyses import analyses, frames, tables
from tests.report.conftest import draw, few, one_seed, records, suite_frames, suites

__all__ = ["analyses", "draw", "few", "frames", "one_seed", "records", "suite_frames", "suites"]
__all__ += ["tables"]
