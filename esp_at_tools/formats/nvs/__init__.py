"""NVS, the key-value storage that ESP-AT keeps its settings, certificates and GATT rows in."""

from esp_at_tools.formats.nvs.crypto import NvsKeys as NvsKeys
from esp_at_tools.formats.nvs.model import NvsEntry as NvsEntry
from esp_at_tools.formats.nvs.model import NvsProblem as NvsProblem
from esp_at_tools.formats.nvs.partition import NvsPartition as NvsPartition
from esp_at_tools.formats.nvs.partition import NvsUsage as NvsUsage
