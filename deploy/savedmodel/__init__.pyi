from .reader import Producer as Producer
from .reader import SavedModelInfo as SavedModelInfo
from .reader import check_complete as check_complete
from .reader import read as read
from .signatures import contract_differences as contract_differences
from .tflite import served_beside as served_beside
