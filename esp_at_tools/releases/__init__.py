"""Official releases: finding, downloading, checking and keeping them."""
