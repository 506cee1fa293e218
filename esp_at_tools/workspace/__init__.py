"""An esp-at checkout that is compiled: its ESP-IDF, submodules and patches, and what a build needs."""
