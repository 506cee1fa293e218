"""The Kconfig tree of an ESP-IDF and an esp-at checkout: resolving an sdkconfig, menuconfig, overlays."""
