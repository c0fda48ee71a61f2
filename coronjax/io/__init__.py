"""The host side of the border: associations, exposures, coordinates and products as files."""
