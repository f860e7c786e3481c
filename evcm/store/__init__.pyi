from .files import read_csv as read_csv
from .files import write_csv as write_csv
from .files import write_json as write_json
from .files import write_npz as write_npz
from .files import write_parquet as write_parquet
from .results import StaleError as StaleError
from .results import Store as Store
