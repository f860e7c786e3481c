from .arrivals import Sessions as Sessions
from .arrivals import draw_sessions as draw_sessions
from .certificate import certify as certify
from .environment import ChargingStation as ChargingStation
from .files import read_case as read_case
from .grid import Stations as Stations
from .grid import operate as operate
from .grid import under_cap as under_cap
from .mpc import ModelPredictive as ModelPredictive
from .projection import ProjectLimits as ProjectLimits
from .rewards import Weights as Weights
from .rules import baselines as baselines
from .series import Series as Series
from .series import week_series as week_series
from .solve import optimum as optimum
from .station import Case as Case
from .station import Run as Run
from .station import make_case as make_case
from .station import replay as replay
from .station import run as run
from .trace import load as load
from .trace import save as save
from .vector import ChargingStations as ChargingStations
from .world import World as World
from .world import charger_types as charger_types
from .world import example_world as example_world

ENVIRONMENT: str
