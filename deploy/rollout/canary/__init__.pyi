from .judging import judge as judge
from .page import report_page as report_page
from .report import CanaryReport as CanaryReport
from .report import CanarySide as CanarySide
