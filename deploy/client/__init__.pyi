from .connecting import Client as Client
from .connecting import connect as connect
from .connecting import connect_to as connect_to
from .interfaces import Control as Control
from .interfaces import Metadata as Metadata
from .interfaces import Prediction as Prediction
from .interfaces import Predictor as Predictor
