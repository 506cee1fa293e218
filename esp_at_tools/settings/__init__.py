"""What a user may change in a firmware: names, types, limits, profiles, and how each layout holds them."""
