"""A small esp-at source tree, made in code: a module on the chip's defaults, tables, certificates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esp_at_tools.build.artefacts import built_files
from esp_at_tools.build.from_tree import recipe_from_tree
from esp_at_tools.build.options import Options
from esp_at_tools.build.recipe import Recipe
from esp_at_tools.build.tree import open_tree

DEFAULTS = """CONFIG_IDF_TARGET_ESP32C3=y
CONFIG_ESPTOOLPY_FLASHMODE_QIO=y
CONFIG_ESPTOOLPY_FLASHFREQ_40M=y
CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="module_config/module_esp32c3_default/partitions_at.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_FILE="module_config/module_esp32c3_default/at_customize.csv"
CONFIG_AT_CUSTOMIZED_PARTITION_TABLE_OFFSET=0x1e000
CONFIG_BT_ENABLED=y
"""
PRIMARY = """otadata, data, ota, 0xd000, 0x2000
at_customize, 0x40, 0, 0x1E000, 0x42000
ota_0, app, ota_0, 0x60000, 0x1d0000
ota_1, app, ota_1, 0x230000, 0x1d0000
"""
SECONDARY = "mfg_nvs, data, nvs, 0x1f000, 124K\nfatfs, data, fat, 0x47000, 100K\n"
DATA = """platform,module_name,description,version,uart_tx_pin
PLATFORM_ESP32C3,MY-BOARD,"mine, and no other's",4,7
PLATFORM_ESP32C3,MY-SPI,,4,-1
"""
CSV = "components/customized_partitions/raw_data/factory_param/factory_param_data.csv"
TYPES = "components/customized_partitions/raw_data/factory_param/factory_param_type.csv"
LIST = "components/customized_partitions/at_customized_config_dependency.txt"
GATTS = "components/customized_partitions/raw_data/ble_data/gatts_data.csv"
HOME = "module_config/module_esp32c3_default"
TREE = {
    CSV: DATA,
    TYPES: "# types\nversion,data,i8\n\nmodule_name,data,string\nuart_tx_pin,data,i32\n",
    LIST: "# a comment\nAT_BLE_COMMAND_SUPPORT=y   ble_data\nAT_FS_COMMAND_SUPPORT=y fatfs\n"
    "AT_SSL_CLIENT_SERVER_AUTH_CLIENT=y client_cert\nAT_SSL_CLIENT_SERVER_AUTH_CLIENT=y client_key\n"
    "AT_MQTT_CLIENT_AUTH_BROKER=y mqtt_ca\nAT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y factory_param\n"
    "AT_CUSTOMIZED_PARTITION_TABLE_SUPPORT=y mfg_nvs\n",
    GATTS: "# index,…\n0,16,0x2800,0x01,2,2,A002\n",
    "components/customized_partitions/raw_data/client_cert/b.crt": "second",
    "components/customized_partitions/raw_data/client_cert/a.pem": "first",
    "components/customized_partitions/raw_data/client_cert/notes.txt": "no certificate",
    "components/customized_partitions/raw_data/client_key/device, mine.key": "secret",
    "components/customized_partitions/raw_data/mqtt_ca/ca.crt": "mqtt",
    f"{HOME}/sdkconfig.defaults": DEFAULTS,
    f"{HOME}/sdkconfig_silence.defaults": f"{DEFAULTS}CONFIG_LOG_DEFAULT_LEVEL_NONE=y\n",
    f"{HOME}/partitions_at.csv": PRIMARY,
    f"{HOME}/at_customize.csv": SECONDARY,
    f"{HOME}/IDF_VERSION": "branch:release/v5.4\ncommit:0123456789abcdef\nrepository:https://host/idf.git\n",
}


def files_of(recipe: Recipe) -> dict[str, bytes]:
    return {path: file.data for path, file in built_files(recipe).items()}


@dataclass(frozen=True)
class Made:
    """A tree in a folder of its own."""

    folder: Path

    def write(self, path: str, text: str | bytes) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def add(self, path: str, text: str) -> None:
        self.write(path, f"{(self.folder / path).read_text('utf-8')}{text}")

    def recipe(self, name: str = "ESP32C3/MY-BOARD", **options: object) -> Recipe:
        return recipe_from_tree(open_tree(self.folder), name, Options(**options))


def make_tree(folder: Path) -> Made:
    """Write the tree into a folder."""
    made = Made(folder)
    for path, text in TREE.items():
        made.write(path, text)
    return made
