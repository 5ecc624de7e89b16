"""The settings of who may ask."""
