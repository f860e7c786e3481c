from .flow import Settings as Settings
from .flow import StudyResult as StudyResult
from .flow import run as run
from .stored import summary as summary
from .stored import table as table
